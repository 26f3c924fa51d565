"""One knob for a pipeline: as written at 1, nothing at 0, monotone in between, and refusals in words."""

import albumentations as A
import numpy as np
import pytest

from augcam.config.schema import validate
from augcam.data.augment.build import build_pipeline
from augcam.data.augment.strength import TABLE, weakened
from augcam.errors import UserError
from tests.conftest import ROOT, compose

OPS = sorted(path.stem for path in (ROOT / "conf" / "aug" / "op").glob("*.yaml"))
UNSCALED = ["alternating_flip"]
# Smooth, so that moving a pixel further changes it more.
RAMP = np.linspace(0, 255, 32)
IMAGE = np.stack(np.broadcast_arrays(RAMP[:, None], RAMP[None], RAMP[::-1, None] / 2 + 60), axis=-1)
IMAGE = IMAGE.astype(np.uint8)


def built(name: str, strength: float):
    aug = validate(compose(["data=shapes", "aug=none", f"+aug/op@aug.x={name}"])).aug
    return build_pipeline(aug, 1, lambda: (0.5, 0.5, 0.5), strength=strength)


def change(name: str, strength: float) -> float:
    """Mean absolute difference to the raw image over 300 draws."""
    pipeline = built(name, strength)
    raw = IMAGE.astype(np.float32)
    return float(np.mean([np.abs(pipeline(IMAGE, 0, index) - raw).mean() for index in range(300)]))


@pytest.mark.parametrize("name", [name for name in OPS if name not in UNSCALED])
def test_every_op_of_conf_grows_from_nothing_to_what_is_written(name):
    changes = [change(name, strength) for strength in (0, 0.3, 0.6, 1)]
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert 0 < changes[1] < 0.75 * changes[3]
    as_written = validate(compose(["data=shapes", "aug=none", f"+aug/op@aug.x={name}"])).aug
    plain = build_pipeline(as_written, 1, lambda: (0.5, 0.5, 0.5))
    whole = built(name, 1)
    assert all(np.array_equal(plain(IMAGE, 1, i), whole(IMAGE, 1, i)) for i in range(20))


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (A.Rotate, {"limit": 20, "p": 0.8}, {"limit": 10, "p": 0.4}),
        (A.Rotate, {}, {"limit": [-45, 45], "p": 0.25}),  # Albumentations' defaults are scaled too
        (A.Affine, {"scale": {"x": [0.8, 1.4]}, "translate_px": None, "p": 1},
         {"scale": {"x": [0.9, 1.2]}, "p": 0.5}),
        (A.CoarseDropout, {"hole_height_range": [7, 16], "hole_width_range": [0.2, 0.4], "p": 1},
         {"hole_height_range": [4, 8], "hole_width_range": [0.1, 0.2]}),
        (A.Posterize, {"num_bits": [3, 7], "p": 1}, {"num_bits": [5, 7]}),
        (A.HorizontalFlip, {"p": 0.5}, {"p": 0.25}),
    ],
)  # fmt: skip
def test_ranges_shrink_to_what_does_nothing(kind, arguments, expected):
    scaled = weakened(kind, arguments, 0.5)
    assert {name: scaled[name] for name in expected} == {
        name: pytest.approx(value) if isinstance(value, list) else value
        for name, value in expected.items()
    }


def test_a_range_of_each_channel_shrinks_as_one_of_all_does():
    aug = {"x": {"_target_": "albumentations.Posterize", "num_bits": [[1, 3], [3, 5], [2, 4]]}}
    (posterize,) = build_pipeline(aug, 1, strength=0.5).transforms.values()
    assert posterize.num_bits == [(4, 5), (5, 6), (5, 6)]


def test_a_number_of_color_jitter_is_a_range_around_1():
    """0.2 is [0.8, 1.2] for Albumentations, at any strength, and narrower at a lower one."""
    wide = {"brightness": 0.2, "contrast": 0.4, "saturation": 0.6, "hue": 0.1}
    as_ranges = {name: [1 - v, 1 + v] for name, v in wide.items() if name != "hue"} | {"hue": 0.1}
    for arguments in (wide, as_ranges):
        jitter = A.ColorJitter(**weakened(A.ColorJitter, arguments, 0.5))
        assert jitter.brightness == pytest.approx((0.9, 1.1))
        assert jitter.contrast == pytest.approx((0.8, 1.2))
        assert jitter.saturation == pytest.approx((0.7, 1.3))
        assert jitter.hue == pytest.approx((-0.05, 0.05))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limit": "large"}, r"aug\.x\.limit=large"),
        ({"limit": [-5, "large"]}, r"aug\.x\.limit"),
        ({"limit": 15, "p": "often"}, r"aug\.x\.p=often"),
    ],
)
def test_what_is_no_number_is_refused_in_the_words_of_an_unscaled_transform(arguments, words):
    aug = {"x": {"_target_": "albumentations.Rotate", **arguments}}
    for strength in (1, 0.5):
        with pytest.raises(UserError, match=words):
            build_pipeline(aug, 1, strength=strength)


def test_in_a_composition_only_the_outermost_probability_is_scaled():
    rotate = {"_target_": "albumentations.Rotate", "limit": 20, "p": 0.8}
    aug = {"one": {"_target_": "albumentations.OneOf", "transforms": [rotate], "p": 0.6}}
    (choice,) = build_pipeline(aug, 1, strength=0.5).transforms.values()
    assert choice.p == 0.3
    assert choice.transforms[0].p == 0.8
    assert choice.transforms[0].limit == (-10, 10)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("augcam.data.augment.AlternatingFlip", "it has no probability"),
        ("albumentations.Spatter", "which of its arguments is its strength is not known"),
    ],
)
def test_what_cannot_be_scaled_is_refused_at_any_strength_but_1(target, words):
    build_pipeline({"x": {"_target_": target}}, 1)
    for strength in (0, 0.5):
        with pytest.raises(UserError, match=rf"aug\.x: aug_strength={strength:g}: .*{words}"):
            build_pipeline({"x": {"_target_": target}}, 1, strength=strength)


def test_each_argument_of_the_table_is_one_of_its_class():
    import inspect

    for kind, scales in TABLE.items():
        assert {"p", *scales} <= inspect.signature(kind).parameters.keys()


def test_it_is_a_key_of_a_run_and_earlier_runs_had_1():
    config = compose(["data=shapes", "aug=cutout", "aug_strength=0.25"])
    assert validate(config).aug_strength == 0.25
    del config.aug_strength
    assert validate(config).aug_strength == 1
    with pytest.raises(UserError, match=r"aug_strength=1\.5"):
        validate(compose(["data=shapes", "aug_strength=1.5"]))
