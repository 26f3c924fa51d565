"""Corruptions: fifteen kinds, five severities that grow, the same for every network."""

import warnings

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from augcam.data.cifar10c import SEVERITIES
from augcam.data.corruptions import CORRUPTIONS, corrupt
from augcam.data.datasets.cifar import CIFAR10
from tests.conftest import CIFAR, needs_cifar

SOME = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
RANDOM = [
    "gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "spatter", "shift",
    "rotation", "elastic_transform",
]  # fmt: skip


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return CIFAR10(CIFAR).test().images[:100]


def grey(value: int, side: int = 32) -> np.ndarray:
    return np.full((1, side, side, 3), value, np.uint8)


def one(image: np.ndarray, name: str, severity: int, index: int = 0) -> np.ndarray:
    return corrupt(image, np.array([index]), name, severity)[0].astype(int)


def test_fifteen_kinds_by_category_with_five_strengths_each():
    assert len(CORRUPTIONS) == 15
    assert all(len(kind.strengths) == len(SEVERITIES) == 5 for kind in CORRUPTIONS.values())
    categories = [kind.category for kind in CORRUPTIONS.values()]
    blocks = [a for a, b in zip(categories, [*categories[1:], ""], strict=True) if a != b]
    assert blocks == ["noise", "blur", "weather", "digital", "geometry"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_type_and_no_word_from_albumentations(name):
    for shape in ((2, 32, 32, 3), (2, 16, 16, 3), (2, 96, 64, 3)):
        images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        before = images.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an unknown argument only warns
            made = [corrupt(images, np.arange(2), name, severity) for severity in SEVERITIES]
        assert all(found.dtype == np.uint8 and found.shape == shape for found in made)
        assert (images == before).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_meets_the_same_draw_whatever_the_batch(name):
    index = np.array([3, 17, 4, 99, 5, 1000])
    whole = corrupt(SOME, index, name, 3, seed=1)
    again = corrupt(SOME, index, name, 3, seed=1)
    backwards = corrupt(SOME[::-1], index[::-1], name, 3, seed=1)[::-1]
    alone = [corrupt(SOME[i : i + 1], index[i : i + 1], name, 3, seed=1)[0] for i in range(6)]
    assert (whole == again).all()
    assert (whole == backwards).all()
    assert (whole == np.stack(alone)).all()


@pytest.mark.parametrize("name", RANDOM)
def test_draws_differ_between_images_and_seeds(name):
    same = np.repeat(SOME[:1], 20, axis=0)
    drawn = corrupt(same, np.arange(20), name, 4, seed=0)
    assert any((image != drawn[0]).any() for image in drawn)
    assert (drawn != corrupt(same, np.arange(20), name, 4, seed=1)).any()


@needs_cifar
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_grows_and_spares_what_is_needed_to_recognise_the_image(real, name):
    index = np.arange(len(real))
    made = [corrupt(real, index, name, severity) for severity in SEVERITIES]
    for found in made:
        assert (found != real).any(axis=(1, 2, 3)).all()
    distances = [np.abs(found.astype(int) - real).mean() for found in made]
    losses = [
        np.mean([1 - structural_similarity(a, b, channel_axis=2) for a, b in zip(real, found)])  # noqa: B905
        for found in made
    ]
    assert (np.diff(distances) > 0).all(), distances
    assert (np.diff(losses) > 0).all(), losses
    # At severity 5 most images are still nearest to their own original, of a hundred. A moved image
    # is told by its colours: it has the same ones elsewhere.
    flat = [images.reshape(len(real), -1, 3).astype(float) for images in (made[-1], real)]
    if CORRUPTIONS[name].category == "geometry":
        flat = [np.sort(pixels, axis=1) for pixels in flat]
    mine, originals = (pixels.reshape(len(real), -1) for pixels in flat)
    likeness = np.corrcoef(mine, originals)[: len(real), len(real) :]
    assert (likeness.argmax(axis=1) == index).mean() > 0.5


def test_brightness_adds_and_contrast_keeps_the_mean():
    for severity, share in zip(SEVERITIES, CORRUPTIONS["brightness"].strengths, strict=True):
        assert np.abs(one(grey(100), "brightness", severity) - (100 + 255 * share)).max() <= 1
    halves = grey(60)
    halves[:, :16] = 180
    for severity, factor in zip(SEVERITIES, CORRUPTIONS["contrast"].strengths, strict=True):
        made = one(halves, "contrast", severity)
        assert abs(made.mean() - 120) <= 1
        assert abs((made[0, 0, 0] - made[31, 0, 0]) - 120 * factor) <= 2


def test_noise_has_its_stated_size():
    for severity, std in zip(SEVERITIES, CORRUPTIONS["gaussian_noise"].strengths, strict=True):
        noise = one(grey(128, 128), "gaussian_noise", severity) - 128
        assert abs(noise.std() - 255 * std) < 1  # cut off to whole levels, and at black and white
    for severity, share in zip(SEVERITIES, CORRUPTIONS["impulse_noise"].strengths, strict=True):
        made = one(grey(128), "impulse_noise", severity)
        hit = (made != 128).all(axis=2)
        assert hit.sum() == int(32 * 32 * share)
        assert set(made[hit].ravel()) == {0, 255}


def test_shift_moves_whole_pixels_in_all_four_directions():
    seen = set()
    for index in range(40):
        made = one(SOME[:1], "shift", 2, index)
        for axis, step in ((0, 4), (0, -4), (1, 4), (1, -4)):
            moved = np.roll(SOME[0].astype(int), step, axis)
            inside = np.s_[4:-4, 4:-4]
            if (made[inside] == moved[inside]).all():
                seen.add((axis, step))
    assert len(seen) == 4


@pytest.mark.parametrize("side", [32, 64, 128])
def test_strengths_in_pixels_grow_with_the_side(side):
    edge = grey(0, side)
    edge[:, :, side // 2 :] = 255
    for severity, sigma in zip(SEVERITIES, CORRUPTIONS["gaussian_blur"].strengths, strict=True):
        profile = one(edge, "gaussian_blur", severity)[side // 2, :, 0]
        slope = np.diff(profile) / 255  # of a blurred edge: the blur's own profile
        place = np.arange(len(slope)) - (side / 2 - 1)
        measured = np.sqrt((slope * place**2).sum())
        assert abs(measured - sigma * side / 32) < 0.1 * sigma * side / 32
