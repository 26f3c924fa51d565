"""Blending by arithmetic."""

import numpy as np
import pytest
from matplotlib import colormaps

from augcam.errors import UserError
from augcam.explain.overlay import colourise, overlay

PHOTO = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)


def test_blend_is_a_fixed_mixture_of_image_and_colour():
    heat = np.random.default_rng(1).random((2, 4, 5))
    for alpha in (0.0, 0.3, 0.5, 1.0):
        blend = overlay(PHOTO, heat, alpha=alpha)
        exact = (1 - alpha) * PHOTO.astype(float) + alpha * colourise(heat).astype(float)
        assert blend.dtype == np.uint8
        assert np.abs(blend - exact).max() <= 0.5 + 1e-4  # rounded, neither wrapped nor rescaled


def test_white_and_hot_do_not_wrap_and_dark_images_stay_dark():
    red, blue = colormaps["turbo"](255)[0] * 255, colormaps["turbo"](0)[2] * 255
    white = overlay(np.full((2, 2, 3), 255, np.uint8), np.ones((2, 2)))
    black = overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)))
    np.testing.assert_allclose(white[0, 0, 0], (255 + red) / 2, atol=1)
    np.testing.assert_allclose(black[0, 0, 2], blue / 2, atol=1)


def test_a_batch_is_its_images_one_by_one():
    heat = np.linspace(0, 1, 40).reshape(2, 4, 5)
    both = overlay(PHOTO, heat, ("ok", "constant"))
    np.testing.assert_array_equal(both[0], overlay(PHOTO[0], heat[0]))
    np.testing.assert_array_equal(both[1], overlay(PHOTO[1], heat[1], "constant"))


@pytest.mark.parametrize("status", ["no_positive_evidence", "constant", "nonfinite"])
def test_a_map_that_says_nothing_has_no_colour(status):
    heat = np.full((4, 5), np.nan if status == "nonfinite" else 0.0)
    grey = overlay(PHOTO[0], heat, status)
    assert (grey == grey[..., :1]).all()
    luma = PHOTO[0] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], luma, atol=0.51)


@pytest.mark.parametrize(
    ("images", "heat", "status"),
    [
        (PHOTO.astype(np.float32), np.zeros((2, 4, 5)), "ok"),
        (PHOTO, np.zeros((2, 5, 4)), "ok"),
        (PHOTO, np.zeros((4, 5)), "ok"),
        (PHOTO, np.zeros((2, 4, 5)), ("ok", "ok", "ok")),
    ],
)
def test_what_does_not_fit_is_refused(images, heat, status):
    with pytest.raises(UserError):
        overlay(images, heat, status)
