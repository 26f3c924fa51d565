"""Our own transforms: the papers' arithmetic, and Albumentations' where ours is only faster."""

import random

import albumentations as A
import cv2
import numpy as np
import pytest

from augcam.data.augment.build import build_pipeline
from augcam.data.augment.ops import Rotate
from tests.data.augment.test_pipeline import composed


def test_pad_crop_is_one_of_the_shifts_of_the_mirrored_image(image):
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = {
        padded[top : top + 32, left : left + 32].tobytes() for top in range(5) for left in range(5)
    }
    pipeline = build_pipeline({"c": {"_target_": "augcam.data.augment.PadCrop", "padding": 2}}, 1)
    assert {pipeline(image, 0, index).tobytes() for index in range(400)} == shifts


def test_an_alternating_flip_shows_each_image_both_ways_in_two_epochs(image):
    pipeline = build_pipeline(composed("aug=none", "+aug/op@aug.flip=alternating_flip"), seed=1)
    mirrored = np.array(
        [
            [np.array_equal(pipeline(image, epoch, index), image[:, ::-1]) for index in range(400)]
            for epoch in range(4)
        ]
    )
    assert np.array_equal(mirrored[1], ~mirrored[0])
    assert np.array_equal(mirrored[2:], mirrored[:2])
    assert abs(mirrored[0].mean() - 0.5) < 0.1  # four standard deviations of 400 coins


def test_cutout_is_the_papers():
    """Centres uniform over the image, the square clipped: sizes and places as counted by hand."""
    image = np.full((32, 32, 3), 9, np.uint8)
    pipeline = build_pipeline(
        {"c": {"_target_": "augcam.data.augment.Cutout", "size": 16, "fill": [1, 2, 3]}}, seed=1
    )
    draws = [pipeline(image, 0, index) for index in range(3000)]
    assert np.array_equal(np.unique(draws[0].reshape(-1, 3), axis=0), [[1, 2, 3], [9, 9, 9]])
    heights = [int((draw[..., 0] == 1).any(axis=1).sum()) for draw in draws]
    widths = [int((draw[..., 0] == 1).any(axis=0).sum()) for draw in draws]
    visible = [min(centre + 8, 32) - max(centre - 8, 0) for centre in range(32)]
    for sides in (heights, widths):
        assert set(sides) == set(visible)
        # 17 of 32 centres show all 16 pixels; the mean side is 13.75, sd 2.8, 5 sigma of mean .26.
        assert abs(np.mean([side == 16 for side in sides]) - 17 / 32) < 5 * 0.0091
        assert abs(np.mean(sides) - np.mean(visible)) < 0.26
    areas = np.prod([heights, widths], axis=0)
    assert np.array_equal(areas, [(draw[..., 0] == 1).sum() for draw in draws])
    assert np.all(image == 9)


@pytest.mark.parametrize(
    "settings",
    [
        {"limit": 40, "border_mode": cv2.BORDER_REFLECT_101},
        {"limit": (10, 20), "fill": 9},
        {"limit": 30, "fill": (1, 2, 3), "interpolation": 0},
    ],
)
def test_the_faster_rotation_equals_albumentations_own(settings, image):
    wide = np.ascontiguousarray(image[:24])
    for seed in range(40):
        results = []
        for kind in (A.Rotate, Rotate):
            transform = kind(p=0.8, **settings)
            transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            results.append(transform(image=wide)["image"])
        assert np.array_equal(*results)


@pytest.mark.parametrize("shape", [(33, 40), (33, 40, 2)])
@pytest.mark.parametrize("settings", [{}, {"fill_mask": 3}, {"crop_border": True}])
def test_a_mask_turns_as_with_albumentations(shape, settings):
    drawn = np.random.default_rng(0)
    image = drawn.integers(0, 256, (33, 40, 3), dtype=np.uint8)
    mask = drawn.random(shape, np.float32)
    found = []
    for kind in (A.Rotate, Rotate):
        transform = kind(limit=(-60, 60), p=1, **settings)
        transform.set_random_state(np.random.default_rng(1), random.Random(1))
        found.append([transform(image=image, mask=mask)["mask"] for _ in range(5)])
    for theirs, ours in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert np.array_equal(ours, theirs)
