"""Maps that know nothing of the network."""

import numpy as np
import pytest
import torch

from augcam.explain.faithfulness.baselines import centre_map, edge_map, shuffled
from tests.explain.faithfulness.made import pictures


class TestBaselines:
    def test_centre_is_a_gaussian_about_the_middle(self):
        centre = centre_map(pictures(2, side=9))[1]
        assert np.unravel_index(centre.argmax(), centre.shape) == (4, 4)
        assert centre[4, 4] == 1
        # 2.25 pixels are one standard deviation: exp(-(2/2.25)^2 / 2) two pixels away.
        assert centre[4, 6] == pytest.approx(np.exp(-((2 / 2.25) ** 2) / 2))
        assert np.array_equal(centre, centre.T)

    def test_edge_equals_scikit_image(self):
        filters = pytest.importorskip("skimage.filters")
        images = pictures(2, side=12)
        for image, found in zip(images, edge_map(images), strict=True):
            grey = image.mean(0).numpy()
            expected = np.hypot(filters.sobel_h(grey), filters.sobel_v(grey))
            assert found == pytest.approx(expected / expected.max(), abs=1e-5)

    def test_a_flat_image_has_no_edges(self):
        assert not edge_map(torch.ones(1, 3, 4, 4)).any()

    def test_shuffled_keeps_the_cells_of_each_image_and_moves_them(self):
        maps = np.random.default_rng(0).random((5, 4, 6))
        found = shuffled(maps, seed=1)
        assert np.array_equal(np.sort(found.reshape(5, -1)), np.sort(maps.reshape(5, -1)))
        assert all((one != other).any() for one, other in zip(found, maps, strict=True))
        places = [np.argsort(one.ravel()) for one in shuffled(np.tile(maps[0], (5, 1, 1)), seed=1)]
        assert len({tuple(place) for place in places}) == 5  # an order of its own for each image

    def test_equal_maps_are_shuffled_alike_and_the_seed_decides(self):
        maps = np.random.default_rng(0).random((3, 4, 4))
        assert np.array_equal(shuffled(maps, 1), shuffled(maps.copy(), 1))
        assert not np.array_equal(shuffled(maps, 1), shuffled(maps, 2))
