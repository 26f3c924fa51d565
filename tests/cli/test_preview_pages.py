"""What a preview says of a pipeline: the configs it composes, its numbers, and what it points out."""

import numpy as np
import pytest
import torch
from skimage.measure import shannon_entropy

from augcam.cli.preview import (
    configs,
    in_words,
    look,
    measure,
    oddities,
    raw_images,
    refuse_unwritable,
    remains,
    write,
)
from augcam.config.schema import validate
from augcam.data.augment.build import build_pipeline
from augcam.data.augment.mix import build as build_mix
from augcam.data.datasets.cifar import CIFAR10
from augcam.data.datasets.shapes import Shapes
from augcam.errors import UserError
from augcam.training.callbacks.preview import preview_picture
from augcam.viz.grid import GAP
from tests.browser import assert_legible, laid_out, needs_chromium
from tests.conftest import CIFAR, ROOT, compose, needs_cifar

AUGS = sorted(path.stem for path in (ROOT / "conf" / "aug").glob("*.yaml"))
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def op(name: str, **settings) -> dict:
    return {"_target_": f"albumentations.{name}", **settings}


def cifar_mean() -> tuple[float, float, float]:
    return (0.4914, 0.4822, 0.4465)


def seen(images: np.ndarray, aug: dict) -> list[str]:
    """What is odd about a pipeline, as the command works it out."""
    alone = {
        name: measure(build_pipeline({name: s}, 1, cifar_mean), images, 2)
        for name, s in aug.items()
    }
    return oddities(measure(build_pipeline(aug, 1, cifar_mean), images, 4), alone)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return CIFAR10(CIFAR).test().images[:250]


@pytest.fixture(scope="module")
def shapes() -> np.ndarray:
    return Shapes(train_size=250).train().images[:]


def test_a_config_is_that_of_train_py():
    overrides = ["data=shapes", "aug=flip", "+aug/op@aug.blur=blur", "aug.blur.p=1", "seed=7"]
    ((label, config),) = configs(overrides)
    assert label == "flip"
    assert config == validate(compose(overrides))
    assert list(config.aug) == ["flip", "blur"]
    ((_, without),) = configs(["aug=cutout_rotate", "~aug.cutout"])
    assert list(without.aug) == ["flip", "rotate"]


def test_lists_globs_and_ranges_make_a_preview_of_each():
    assert [label for label, _ in configs(["aug=glob(*)"])] == AUGS
    assert [label for label, _ in configs(["aug=glob(c*,exclude=clahe)"])] == [
        name for name in AUGS if name.startswith("c") and name != "clahe"
    ]
    limits = configs(["aug=rotate", "aug.rotate.limit=5,15,30"])
    assert [label for label, _ in limits] == [f"rotate aug.rotate.limit={n}" for n in (5, 15, 30)]
    assert [config.aug["rotate"]["limit"] for _, config in limits] == [5, 15, 30]
    both = configs(["aug=cutout,cutout_rotate", "aug.cutout.p=0.5,1", "seed=3"])
    assert [(label.split()[0], config.aug["cutout"]["p"]) for label, config in both] == [
        ("cutout", 0.5), ("cutout", 1), ("cutout_rotate", 0.5), ("cutout_rotate", 1),
    ]  # fmt: skip
    kept = configs(
        ["aug=cutout", "aug.cutout.except=[cat]", "data=folder", "data.root=~/a=b", "seed=3"]
    )
    assert [label for label, _ in kept] == ["cutout"]
    sizes = configs(["aug.cutout.size=range(8,17,4)"])
    assert [config.aug["cutout"]["size"] for _, config in sizes] == [8, 12, 16]


def test_all_that_is_wrong_with_a_list_is_told_in_three_lines():
    with pytest.raises(UserError) as told:
        configs(["aug=cutot,flip,rotte"])
    first, second = str(told.value).splitlines()
    assert "cutot" in first
    assert "did you mean cutout" in first
    assert "rotte" in second
    with pytest.raises(UserError) as told:
        configs(["aug=glob(*)", "aug.rotate.limit=30"])
    lines = str(told.value).splitlines()
    steps = {tuple(sorted(compose([f"aug={name}"]).aug)) for name in AUGS}
    lacking = [names for names in steps if "rotate" not in names]  # the same names, the same words
    assert len(lines) == 3
    assert f"{len(lacking) - 2} more" in lines[2]
    with pytest.raises(UserError, match=r"glob\(zz\*\)"):
        configs(["aug=glob(zz*)"])


def test_contrast_and_tones_of_known_images():
    assert remains(np.full((32, 32, 3), 77, np.uint8)) == (0, 0)
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:16] = 255
    assert remains(halves) == (127.5, 1)
    bars = np.repeat(np.arange(0, 256, 32, dtype=np.uint8), 4)  # 8 grey values, equally often
    _, tones = remains(np.broadcast_to(bars[:, None, None], (32, 32, 3)))
    assert tones == pytest.approx(3)
    # Red against green of the same luma: contrast, but one tone.
    colours = np.zeros((32, 32, 3), np.uint8)
    colours[:16, :, 0], colours[16:, :, 1] = 198, 101
    contrast, tones = remains(colours)
    assert contrast == pytest.approx(np.sqrt((99**2 + 50.5**2) / 3))
    assert tones == 0


@pytest.mark.parametrize("image", [NOISE[0], NOISE[1] // 3, NOISE[2] // 9])
def test_contrast_and_tones_against_other_libraries(image):
    contrast, tones = remains(image)
    assert contrast == pytest.approx(np.sqrt(image.reshape(-1, 3).var(axis=0).mean()), rel=1e-5)
    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    assert tones == pytest.approx(shannon_entropy(luma // 4, base=2), abs=1e-6)


def test_neither_depends_on_where_a_pixel_is(shapes):
    image = shapes[0]
    scrambled = RANDOM.permutation(image.reshape(-1, 3)).reshape(image.shape)
    for moved in (image[:, ::-1], np.rot90(image), np.roll(image, 5, axis=0), scrambled):
        assert remains(moved) == pytest.approx(remains(image), rel=1e-5)


def test_shares_are_those_of_the_draws():
    aug = {"flip": op("HorizontalFlip", p=0.5), "dark": op("RandomBrightnessContrast", p=0.3,
           brightness_limit=[-1, -1], contrast_limit=0)}  # fmt: skip
    pipeline = build_pipeline(aug, seed=1)
    draws = np.array([[pipeline(x, e, i) for i, x in enumerate(NOISE)] for e in range(6)])
    effect = measure(pipeline, NOISE, repeats=6)
    assert effect.draws == 120
    assert effect.changed == pytest.approx((draws != NOISE).any(axis=(2, 3, 4)).mean())
    black = (draws == 0).all(axis=(2, 3, 4)).mean()
    assert 0.15 < black < 0.45
    assert effect.flat == effect.toneless == effect.destroyed == pytest.approx(black)
    assert effect.micros.shape == (6,)
    assert (effect.micros > 0).all()


@needs_cifar
@pytest.mark.parametrize("name", AUGS)
def test_no_pipeline_of_conf_is_called_odd(name, photos, shapes):
    ((_, config),) = configs([f"aug={name}"])
    for images in (photos, shapes):
        expected = ["has no transforms: images stay as they are"] if name == "none" else []
        assert seen(images, config.aug) == expected


@needs_cifar
@pytest.mark.parametrize(
    "destroyer",
    [
        op("Blur", blur_limit=[31, 31], p=1),
        op("Blur", blur_limit=[31, 31], p=0.25),
        op("RandomBrightnessContrast", brightness_limit=[-1, -1], p=1),
        op("RandomBrightnessContrast", brightness_limit=[1, 1], p=0.1),
        op("RandomBrightnessContrast", brightness_limit=0, contrast_limit=[-0.9, -0.9], p=1),
        op("CoarseDropout", hole_height_range=[32, 32], hole_width_range=[32, 32], p=0.75),
        op("CoarseDropout", hole_height_range=[30, 30], hole_width_range=[30, 30], p=0.75),
        op("PixelDropout", dropout_prob=0.95, p=1),
        op("Posterize", num_bits=1, p=1),
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_what_leaves_nothing_to_see_is_pointed_out_and_named(destroyer, photos):
    (said,) = seen(photos, {"flip": op("HorizontalFlip", p=0.5), "culprit": destroyer})
    assert said.startswith("destroys")
    assert "culprit by itself" in said


@needs_cifar
@pytest.mark.parametrize(
    "strong",
    [
        op("Rotate", limit=180, p=1),
        op("D4", p=1),
        op("InvertImg", p=1),
        op("ToGray", p=1),
        op("Equalize", p=1),
        op("ColorJitter", p=1),
        op("Solarize", p=1),
        op("Posterize", num_bits=3, p=1),
        op("ImageCompression", quality_range=[10, 10], p=1),
        op("CoarseDropout", hole_height_range=[20, 20], hole_width_range=[20, 20], p=1),
    ],
    ids=lambda settings: settings["_target_"],
)
def test_what_is_strong_and_can_be_recognised_is_not(strong, photos):
    assert seen(photos, {"strong": strong}) == []


def test_what_changes_nothing_is_pointed_out(shapes):
    never = op("HorizontalFlip", p=0)
    idle = op("RandomBrightnessContrast", brightness_limit=0, contrast_limit=0, p=1)
    (said,) = seen(shapes, {"flip": never})
    assert said.startswith("changes nothing: all 1,000 draws")
    (said,) = seen(shapes, {"never": never, "idle": idle})
    assert said.startswith("changes nothing")
    assert seen(shapes, {"crop": op("HorizontalFlip", p=0.5), "idle": idle}) == [
        "its idle changes nothing"
    ]


def test_an_argument_that_is_a_mapping_is_shown_as_one():
    settings = {
        "_target_": "albumentations.ShiftScaleRotate",
        "translate_percent": {"x": [-0.1, 0.1], "y": 0},
        "rotate": None,
        "border_mode": 4,
        "p": 0.5,
    }
    expected = "ShiftScaleRotate: translate_percent {'x': [-0.1, 0.1], 'y': 0}, border_mode 4"
    assert in_words(settings) == expected


def test_the_grid_has_the_raw_image_first_and_then_its_draws():
    def rolled(image, draw, index, label):
        return np.roll(image, 1 + draw + 5 * index, 0)

    grid = preview_picture(NOISE[:2], [0, 1], ["a", "b"], rolled, 3)  # type: ignore[arg-type]
    side = 128 + GAP
    top = grid.shape[0] - 2 * side  # below the headings
    for row, image in enumerate(NOISE[:2]):
        for column in range(4):
            expected = np.roll(image, column + 5 * row if column else 0, axis=0)
            y, x = top + row * side, GAP + column * side
            cell = grid[y : y + 128 : 4, x : x + 128 : 4]
            np.testing.assert_array_equal(cell, expected)


def test_where_nothing_can_be_written_is_told_before_anything_is(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(UserError, match="another folder"):
            refuse_unwritable(out)
    refuse_unwritable(tmp_path / "new" / "deep")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_validation_on_the_test_set_leaves_all_training_images_to_look_at():
    sizes = ["data=shapes", "data.train_size=40", "data.test_size=20"]
    shown = {}
    for holdout in ("0", "test"):
        ((_, config),) = configs([*sizes, f"data.holdout={holdout}"])
        shown[holdout] = raw_images(config)
    assert shown["test"][0].shape == (40, 32, 32, 3)
    np.testing.assert_array_equal(shown["test"][0], shown["0"][0])
    assert shown["test"][1:] == shown["0"][1:]


def test_mixed_draws_are_the_mixture_that_training_makes_of_them():
    images = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 100, 200)])
    pipeline = build_pipeline({}, 1)
    plain = preview_picture(images, [0, 1, 0], ["a", "b"], pipeline, 2)
    mix = build_mix(1.0, None, seed=3)
    mixed = preview_picture(images, [0, 1, 0], ["a", "b"], pipeline, 2, mix)
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    side = 128 + GAP
    for draw in range(2):
        expected, _ = mix(floats, torch.eye(2)[[0, 1, 0]], 0, draw)
        for row in range(3):
            y = mixed.shape[0] - (3 - row) * side + 64
            x = GAP + (1 + draw) * side + 64
            assert mixed[y, x, 0] == round(expected[row, 0, 0, 0].item())
            assert plain[y, x, 0] == images[row, 0, 0, 0]
    assert mixed.shape[1] > plain.shape[1]  # its captions say more


def test_a_preview_with_mix_says_what_mixing_costs():
    sizes = ["data=shapes", "data.train_size=60", "data.test_size=20", "data.holdout=0"]
    one, other = look(configs([*sizes, "aug=flip", "mix=none,cutmix"]))
    assert one.mixing is None
    assert other.mixing > 0
    assert not np.array_equal(one.grid, other.grid)


@needs_chromium
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_a_row_of_each_pipeline(tmp_path, width, scheme):
    sizes = ["data=shapes", "data.train_size=60", "data.test_size=20", "data.holdout=0"]
    page = write(
        look(configs([*sizes, "aug=none,cutout_rotate"])), tmp_path / "page", "augcam preview"
    )
    seen = laid_out(page, tmp_path, width, scheme)
    assert seen["headings"] == ["All pipelines", "none", "cutout_rotate"]
    assert seen["images"] == 4
    assert_legible(seen, width, scheme)
