"""Grids and figures: every pixel of an image where it belongs, and no text cut."""

import numpy as np
import pytest
import torch
from PIL import Image

from augcam.errors import UserError
from augcam.viz.grid import GAP, PAPER, captioned_grid, denormalize, save_png

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

RANDOM = np.random.default_rng(0)

IMAGES = RANDOM.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def is_paper(area: np.ndarray) -> bool:
    return bool((area == PAPER).all())


def test_denormalize_gives_the_image_back():
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    normalized = (every_value / 255 - MEAN) / STD
    tensor = torch.from_numpy(normalized.astype(np.float32)).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(denormalize(tensor, MEAN, STD), every_value)
    assert denormalize(tensor.bfloat16(), MEAN, STD).dtype == np.uint8


def test_denormalize_clips_what_lies_outside():
    far = torch.tensor([-100.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert denormalize(far, MEAN, STD)[:, 0, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_grid_shows_every_pixel_of_every_image_enlarged():
    rows = [[IMAGES[0], IMAGES[1], IMAGES[2]], [IMAGES[3], IMAGES[4]]]
    grid = captioned_grid(rows, ["one", "two"])
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = GAP + y * (128 + GAP), GAP + x * (128 + GAP)
            cell = grid[top : top + 128, left : left + 128]
            np.testing.assert_array_equal(cell, np.kron(image, np.ones((4, 4, 1), np.uint8)))
    assert is_paper(grid[GAP + 128 + GAP :, GAP + 2 * (128 + GAP) : 3 * (128 + GAP)])


def test_long_captions_and_headings_grow_the_grid_and_are_not_cut():
    long = "a_class_name_that_goes_on_and_on_without_a_space " * 8
    grid = captioned_grid(
        [[IMAGES[0]], [IMAGES[1]]], [long + "→ dog", "cat"], ["a long heading " * 4]
    )
    edge = GAP // 2
    for border in (grid[:edge], grid[-edge:], grid[:, :edge], grid[:, -edge:]):
        assert is_paper(border)
    # The first caption is taller than its image; the second row begins below it.
    assert grid.shape[0] > 2 * (128 + GAP) + 100
    assert grid.shape[1] < 128 + 260 + 10 * GAP


def test_all_words_of_a_caption_are_drawn():
    def ink(caption: str) -> int:
        return int((captioned_grid([[IMAGES[0]]], [caption])[:, 128 + 2 * GAP :] < 128).sum())

    assert ink("") == 0
    apart = sum(ink(word) for word in ("cat", "→", "dog", "97%"))
    assert ink("cat → dog\n97%") == pytest.approx(apart, rel=0.15)


def test_the_arrow_is_a_glyph_and_not_a_box():
    arrow = captioned_grid([[IMAGES[0]]], ["→"])
    unknown = captioned_grid([[IMAGES[0]]], ["\uffff"])
    assert arrow.shape != unknown.shape or (arrow != unknown).any()


def test_images_of_other_sizes_are_centred():
    small, wide = IMAGES[0][:16], IMAGES[1]
    grid = captioned_grid([[small, wide]], ["x"])
    np.testing.assert_array_equal(
        grid[GAP + 32 : GAP + 96, GAP : GAP + 128], np.kron(small, np.ones((4, 4, 1), np.uint8))
    )
    large = RANDOM.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    grid = captioned_grid([[large]], [""])
    np.testing.assert_array_equal(grid[GAP : GAP + 300, GAP : GAP + 200], large)


@pytest.mark.parametrize(("rows", "captions"), [([], []), ([[]], ["x"]), ([[IMAGES[0]]], [])])
def test_an_empty_grid_is_refused(rows, captions):
    with pytest.raises(UserError):
        captioned_grid(rows, captions)


def test_png_holds_the_picture(tmp_path):
    save_png(IMAGES[0], tmp_path / "figures" / "picture.png")
    np.testing.assert_array_equal(Image.open(tmp_path / "figures" / "picture.png"), IMAGES[0])


def test_text_for_tensorboard_is_larger_and_the_images_are_not():
    plain, larger = (captioned_grid([[IMAGES[0]]], ["cat"], (), size) for size in (14, 28))
    cell = np.s_[GAP : GAP + 128, GAP : GAP + 128]
    np.testing.assert_array_equal(plain[cell], larger[cell])
    assert larger.shape[1] - plain.shape[1] > 20
