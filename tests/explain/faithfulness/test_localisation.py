"""Maps against masks and mosaics."""

import numpy as np
import pytest
import torch

from augcam.errors import UserError
from augcam.explain.faithfulness.localisation import energy_share, mosaics, pointing_game


class TestLocalisation:
    maps = np.array([[[3.0, 1], [0, 0]], [[2, 2], [2, 0]], [[0, 0], [0, 0]], [[-1, -3], [2, 0]]])
    masks = np.array(
        [[[1, 0], [0, 0]], [[1, 0], [1, 0]], [[1, 0], [0, 0]], [[1, 1], [0, 0]]], dtype=bool
    )

    def test_pointing_game_by_hand(self):
        assert pointing_game(self.maps, self.masks) == pytest.approx([1, 2 / 3, 1 / 4, 0])

    def test_energy_share_by_hand(self):
        assert energy_share(self.maps, self.masks) == pytest.approx([3 / 4, 2 / 3, 1 / 4, 0])

    def test_only_negative_values_are_spread_evenly(self):
        maps = np.array([[[-1.0, -2], [-3, -4]]])
        assert energy_share(maps, self.masks[:1]) == pytest.approx([1 / 4])

    def test_tensors_and_nan(self):
        maps = torch.tensor(self.maps)
        maps[0, 1, 1] = float("nan")
        assert pointing_game(maps, torch.tensor(self.masks))[0] == pytest.approx(1 / 4)

    def test_an_empty_mask_or_another_shape_is_refused(self):
        with pytest.raises(UserError, match="mask of image 1 is empty"):
            pointing_game(self.maps[:2], np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]]))
        with pytest.raises(UserError, match="do not fit maps"):
            energy_share(self.maps, self.masks[:2])


class TestMosaics:
    labels = np.repeat(np.arange(6), 5)
    # Each image is filled with its own number: label = number // 5.
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 4, 6, 3))

    def test_four_classes_and_the_target_s_quadrant(self):
        found = mosaics(self.images, self.labels, count=50, seed=1)
        assert found.images.shape == (50, 8, 12, 3)
        assert found.images.dtype == np.uint8
        assert found.targets.dtype == np.int64
        for image, target, mask in zip(*found, strict=True):
            quadrants = [image[top : top + 4, left : left + 6] for top in (0, 4) for left in (0, 6)]
            classes = [int(quadrant[0, 0, 0]) // 5 for quadrant in quadrants]
            assert all(np.ptp(quadrant) == 0 for quadrant in quadrants)
            assert len(set(classes)) == 4
            assert mask.sum() == 24
            assert (image[mask] // 5 == target).all()
        places = [int(mask[:4].any()) * 2 + int(mask[:, :6].any()) for mask in found.masks]
        assert set(places) == {0, 1, 2, 3}
        assert set(found.targets.tolist()) == set(range(6))

    def test_follows_the_seed(self):
        first, second, other = (
            mosaics(self.images, self.labels, count=5, seed=seed) for seed in (1, 1, 2)
        )
        assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
        assert not np.array_equal(first.images, other.images)

    def test_wrong_requests(self):
        with pytest.raises(UserError, match=r"four classes, and .* are of 3"):
            mosaics(self.images[:15], self.labels[:15], count=1)
        with pytest.raises(UserError, match="0 mosaics"):
            mosaics(self.images, self.labels, count=0)
        with pytest.raises(UserError, match="do not fit"):
            mosaics(self.images, self.labels[:3], count=1)
