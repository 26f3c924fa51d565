"""Pipelines from configs, the random stream of each sample, and what a wrong pipeline is told."""

import random

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from omegaconf import OmegaConf

from augcam.data.augment.ops import CoarseDropout, Rotate
from augcam.data.augment.pipeline import _SplitMix, build
from augcam.data.normalize import normalize
from augcam.errors import UserError
from tests.conftest import ROOT, compose

AUGS = sorted(path.stem for path in (ROOT / "conf" / "aug").glob("*.yaml"))
OPS = sorted(path.stem for path in (ROOT / "conf" / "aug" / "op").glob("*.yaml"))
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 0.5}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def composed(*overrides: str) -> dict:
    return OmegaConf.to_container(compose(["data=shapes", *overrides]).aug, resolve=True)


@pytest.mark.parametrize("name", AUGS)
def test_every_pipeline_builds_and_keeps_the_images_size_and_type(name, image, recwarn):
    pipeline = build(composed(f"aug={name}"), seed=1)
    pipeline.check(image)
    wide = np.ascontiguousarray(np.tile(image, (2, 3, 1)))
    for shown in (image, wide):
        draws = [pipeline(shown, 0, index) for index in range(20)]
        assert {(draw.shape, draw.dtype) for draw in draws} == {(shown.shape, np.dtype("uint8"))}
        assert len({draw.tobytes() for draw in draws}) > 1 or name == "none"
    assert not [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize("name", OPS)
def test_every_op_builds_alone(name, image):
    pipeline = build(composed("aug=none", f"+aug/op@aug.x={name}"), seed=1)
    assert list(pipeline.transforms) == ["x"]
    pipeline.check(image)


def test_knobs_turn_from_the_command_line():
    assert list(composed("aug=crop_flip_cutout")) == ["crop", "flip", "cutout"]
    assert list(composed("aug=cutout_rotate", "~aug.cutout")) == ["flip", "rotate"]
    assert composed("aug=cutout_rotate", "aug.rotate.limit=30")["rotate"]["limit"] == 30
    assert list(composed("aug=flip", "+aug/op@aug.blur=blur")) == ["flip", "blur"]
    without = build(composed("aug=cutout_rotate", "aug.rotate=null"), seed=1)
    assert list(without.transforms) == ["flip", "cutout"]


def test_no_transform_is_the_identity(image):
    assert np.array_equal(build({}, seed=1)(image, 3, 4), image)


def test_the_same_sample_is_drawn_alike_whatever_was_drawn_before(image):
    config = composed("aug=cutout_rotate")
    one, other = build(config, seed=5), build(config, seed=5)
    forwards = [one(image, epoch, index) for epoch in (0, 1) for index in range(30)]
    backwards = [other(image, epoch, index) for epoch in (1, 0) for index in reversed(range(30))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))


def test_draws_differ_between_samples_epochs_and_seeds(image):
    config = {"crop": {"_target_": "augcam.data.augment.PadCrop", "padding": 8}}

    def draws(seed, epochs, indices):
        pipeline = build(config, seed)
        return [pipeline(image, e, i).tobytes() for e in epochs for i in indices]

    # 17 x 17 shifts: 40 draws have about 37 different ones; one stream for all would have 1.
    assert len(set(draws(1, [0], range(40)))) > 30
    assert len(set(draws(1, range(40), [7]))) > 30
    assert len({draws(seed, [0], [7])[0] for seed in range(40)}) > 30


def test_transforms_are_not_in_lockstep():
    """Two flips with p=0.5 agree half of the time: n=2000 gives 0.5 +- 0.011, 5 sigma is 0.056."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 255
    vertical = {"_target_": "albumentations.VerticalFlip", "p": 0.5}
    pipeline = build({"h": FLIP, "v": vertical}, seed=1)
    corners = [np.argwhere(pipeline(image, 0, i)[..., 0])[0] // 3 for i in range(2000)]
    down, right = np.array(corners).T
    assert abs(down.mean() - 0.5) < 0.056
    assert abs(right.mean() - 0.5) < 0.056
    assert abs((down == right).mean() - 0.5) < 0.056


def test_neighbours_are_uncorrelated():
    """A flip of sample i says nothing about sample i+1, nor about sample i an epoch later."""
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 0] = 1
    pipeline = build({"h": FLIP}, seed=1)
    flips = np.array([[pipeline(image, e, i)[0, 1, 0] for i in range(1500)] for e in range(2)])
    assert abs((flips[0, 1:] == flips[0, :-1]).mean() - 0.5) < 0.065
    assert abs((flips[0] == flips[1]).mean() - 0.5) < 0.065


def test_the_python_stream_is_uniform():
    stream = _SplitMix()
    stream.position = 12345
    values = np.array([stream.random() for _ in range(20000)])
    assert np.abs(np.histogram(values, 10, (0, 1))[0] - 2000).max() < 5 * 42  # sqrt(n p q) = 42
    counts = np.bincount([stream.randint(0, 6) for _ in range(7000)], minlength=7)
    assert np.abs(counts - 1000).max() < 5 * 29
    assert max(stream.getrandbits(130) for _ in range(50)).bit_length() > 124


def test_tail_equals_normalize_and_to_tensor_per_image():
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    images = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    per_image = A.Compose([A.Normalize(mean, std), ToTensorV2()])
    expected = torch.stack([per_image(image=image)["image"] for image in images])
    result = normalize(torch.from_numpy(images), mean, std)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    given = normalize(torch.from_numpy(images), torch.tensor(mean), torch.tensor(std))
    assert torch.equal(given, result)


def test_pad_crop_is_one_of_the_shifts_of_the_mirrored_image(image):
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = {
        padded[top : top + 32, left : left + 32].tobytes() for top in range(5) for left in range(5)
    }
    pipeline = build({"c": {"_target_": "augcam.data.augment.PadCrop", "padding": 2}}, 1)
    assert {pipeline(image, 0, index).tobytes() for index in range(400)} == shifts


def test_an_alternating_flip_shows_each_image_both_ways_in_two_epochs(image):
    pipeline = build(composed("aug=none", "+aug/op@aug.flip=alternating_flip"), seed=1)
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
    pipeline = build(
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
    ("theirs", "ours", "settings"),
    [
        (A.Rotate, Rotate, {"limit": 40, "border_mode": cv2.BORDER_REFLECT_101}),
        (A.Rotate, Rotate, {"limit": (10, 20), "fill": 9}),
        (A.Rotate, Rotate, {"limit": 30, "fill": (1, 2, 3), "interpolation": 0}),
        (A.CoarseDropout, CoarseDropout, {"num_holes_range": (1, 3), "fill": (1, 2, 3)}),
        (A.CoarseDropout, CoarseDropout, {"hole_width_range": (0.3, 0.9), "fill": 7}),
        (A.CoarseDropout, CoarseDropout, {"fill": "random"}),
    ],
)
def test_the_lean_transforms_equal_albumentations_own(theirs, ours, settings, image):
    wide = np.ascontiguousarray(image[:24])
    for seed in range(40):
        results = []
        for kind in (theirs, ours):
            transform = kind(p=0.8, **settings)
            transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            results.append(transform(image=wide)["image"])
        assert np.array_equal(*results)


def refused(aug: dict) -> list[str]:
    with pytest.raises(UserError) as caught:
        build(aug, seed=1)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"_target_": "albumentations.CoarseDropout", "max_holes": 3},
         ["aug.x", "CoarseDropout", "'max_holes'", "did you mean num_holes_range"]),
        ({"_target_": "albumentations.CoarseDropout", "fill_value": 0},
         ["did you mean fill_mask or fill?"]),
        ({"_target_": "albumentations.GaussNoise", "var_limit": 9}, ["valid: std_range"]),
        ({"_target_": "albumentations.HorizontalFlip", "p": 1.7}, ["aug.x.p=1.7", "less than"]),
        ({"_target_": "albumentations.Rotate", "limit": "far"}, ["aug.x.limit=far"]),
        ({"_target_": "albumentations.Rotat"}, ["did you mean albumentations.Rotate"]),
        ({"_target_": "albumentations.RandomCrop", "width": 32}, ["aug.x.height", "needs a value"]),
        ({"_target_": "os.system", "command": "true"}, ["os.system", "no such transform"]),
        ({"_target_": "albumentations.Compose", "transforms": []}, ["no such transform"]),
        ({"p": 0.5}, ["aug.x._target_", "no such transform"]),
        ({"_target_": "augcam.data.augment.PadCrop", "padding": 0}, ["padding=0", "at least 1"]),
        ({"_target_": "augcam.data.augment.Cutout", "sise": 8}, ["did you mean size"]),
        ({"_target_": "albumentations.Rotate", "border_mode":
          {"_target_": "hydra.utils.get_object", "path": "cv2.BORDER_REFLEKT"}},
         ["aug.x.border_mode", "did you mean BORDER_REFLECT"]),
        ({"_target_": "albumentations.Rotate", "border_mode":
          {"_target_": "hydra.utils.get_object", "path": "os.system"}}, ["os.system", "OpenCV"]),
    ],
)  # fmt: skip
def test_a_wrong_transform_is_refused_in_one_line(settings, words):
    (line,) = refused({"x": settings})
    for word in words:
        assert word in line


def test_all_problems_of_a_pipeline_are_told_together():
    lines = refused({
        "flip": {**FLIP, "p": -1},
        "good": FLIP,
        "cutout": {"_target_": "albumentations.CoarseDropout", "holes": 1, "p": 2},
    })  # fmt: skip
    assert [line.split(":")[0].split("=")[0] for line in lines] == [
        "aug.flip.p", "aug.cutout", "aug.cutout.p",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"_target_": "albumentations.RandomCrop", "height": 28, "width": 28}, "(28, 28, 3)"),
        ({"_target_": "albumentations.RandomCrop", "height": 64, "width": 64}, "fails on"),
        ({"_target_": "albumentations.Normalize"}, "float32"),
        ({"_target_": "albumentations.pytorch.ToTensorV2"}, "no such transform"),
    ],
)
def test_a_transform_that_does_not_fit_the_images_is_named(settings, words, image):
    with pytest.raises(UserError) as caught:
        build({"x": settings}, seed=1).check(image)
    assert "aug.x" in str(caught.value)
    assert words in str(caught.value)
