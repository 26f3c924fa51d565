"""Pipelines from configs: knobs, compositions, the fill of a hole, and what is wrong in words."""

import sys
import textwrap
from functools import partial

import albumentations as A
import cv2
import numpy as np
import pytest

from augcam.config.build import refusals
from augcam.config.schema import validate
from augcam.data.augment import ops
from augcam.data.augment.build import build_pipeline
from augcam.errors import UserError
from tests.conftest import ROOT, compose
from tests.data.augment.test_pipeline import cifar_mean, composed

AUGS = sorted(path.stem for path in (ROOT / "conf" / "aug").glob("*.yaml"))
OPS = sorted(path.stem for path in (ROOT / "conf" / "aug" / "op").glob("*.yaml"))
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 0.5}


@pytest.mark.parametrize("name", AUGS)
def test_every_pipeline_builds_and_keeps_the_images_size_and_type(name, image, recwarn):
    pipeline = build_pipeline(composed(f"aug={name}"), 1, cifar_mean)
    pipeline.check(image)
    wide = np.ascontiguousarray(np.tile(image, (2, 3, 1)))
    for shown in (image, wide):
        draws = [pipeline(shown, 0, index) for index in range(20)]
        assert {(draw.shape, draw.dtype) for draw in draws} == {(shown.shape, np.dtype("uint8"))}
        assert len({draw.tobytes() for draw in draws}) > 1 or name == "none"
    assert not [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize("name", OPS)
def test_every_op_builds_alone(name, image):
    pipeline = build_pipeline(composed("aug=none", f"+aug/op@aug.x={name}"), 1, cifar_mean)
    assert list(pipeline.transforms) == ["x"]
    pipeline.check(image)


def test_knobs_turn_from_the_command_line():
    assert list(composed("aug=crop_flip_cutout")) == ["crop", "flip", "cutout"]
    assert list(composed("aug=cutout_rotate", "~aug.cutout")) == ["flip", "rotate"]
    assert composed("aug=cutout_rotate", "aug.rotate.limit=30")["rotate"]["limit"] == 30
    assert list(composed("aug=flip", "+aug/op@aug.blur=blur")) == ["flip", "blur"]
    without = build_pipeline(composed("aug=cutout_rotate", "aug.rotate=null"), 1, cifar_mean)
    assert list(without.transforms) == ["flip", "cutout"]


def test_the_fill_of_a_hole_is_the_data_sets_mean():
    """Of CIFAR-10 what was written there before: 125, 123, 114."""
    for name in ("cutout", "crop_flip_cutout", "flagship", "system_d", "system_e", "cutout_rotate"):
        aug = composed(f"aug={name}")
        for mean, fill in ((cifar_mean(), [125, 123, 114]), ((0.2, 0.5, 1.0), [51, 128, 255])):
            pipeline = build_pipeline(aug, 1, partial(tuple, mean))
            assert list(pipeline.transforms["cutout"].fill) == fill


def test_the_mean_is_asked_for_only_where_it_fills():
    def never():
        raise AssertionError("reading the images takes time")

    build_pipeline(composed("aug=crop_flip"), 1, never)
    with pytest.raises(UserError, match=r"aug\.cutout\.fill=mean: .*not known"):
        build_pipeline(composed("aug=cutout"), 1)


def test_the_faster_transforms_stand_in_for_albumentations(image):
    aug = composed("aug=cutout_rotate")
    built = build_pipeline(aug, 1, cifar_mean).transforms
    assert type(built["rotate"]) is ops.FASTER[A.Rotate]


NESTED = {
    "one": {
        "_target_": "albumentations.OneOf",
        "p": 0.9,
        "transforms": {
            "flip": FLIP,
            "two": {
                "_target_": "albumentations.Sequential",
                "p": 1,
                "transforms": [
                    {"_target_": "albumentations.Rotate", "limit": 20, "p": 1},
                    {"_target_": "augcam.data.augment.Cutout", "size": 8, "fill": "mean"},
                ],
            },
            "left_out": None,
        },
    },
    "some": {"_target_": "albumentations.SomeOf", "n": 1, "transforms": [FLIP, FLIP], "p": 1},
    "either": {
        "_target_": "albumentations.OneOrOther", "p": 0.5, "first": FLIP, "second": FLIP,
    },
}  # fmt: skip


def test_compositions_are_built_from_lists_and_mappings(image):
    one, other = build_pipeline(NESTED, 1, cifar_mean), build_pipeline(NESTED, 1, cifar_mean)
    one.check(image)
    outer = one.transforms["one"]
    assert isinstance(outer, A.OneOf)
    assert [type(part).__name__ for part in outer.transforms] == ["HorizontalFlip", "Sequential"]
    assert isinstance(outer.transforms[1].transforms[0], ops.Rotate)
    assert list(outer.transforms[1].transforms[1].fill) == [125, 123, 114]
    samples = [(epoch, index) for epoch in (0, 1) for index in range(10)]
    forwards = {sample: one(image, *sample) for sample in samples}
    backwards = {sample: other(image, *sample) for sample in samples[::-1]}
    assert all(np.array_equal(forwards[sample], backwards[sample]) for sample in samples)


def test_a_composition_travels_through_the_config(image):
    aug = validate(compose(["data=shapes", "aug=none", f"+aug.one={_hydra(NESTED['one'])}"])).aug
    assert build_pipeline(aug, 1, cifar_mean).transforms.keys() == {"one"}


def _hydra(value) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, value)) + "]"
    return "null" if value is None else str(value)


def test_an_opencv_constant_and_its_old_spelling(image):
    new = validate(compose(["data=shapes", "aug=rotate"])).aug
    assert new["rotate"]["border_mode"] == cv2.BORDER_REFLECT_101
    raw = compose(["data=shapes", "aug=rotate"])
    raw.aug.rotate.border_mode = {
        "_target_": "hydra.utils.get_object", "path": "cv2.BORDER_REFLECT_101",
    }  # fmt: skip
    assert validate(raw).aug == new
    for path, words in (("cv2.BORDER_REFLEKT", "did you mean BORDER_REFLECT"),
                        ("os.system", "only a constant of OpenCV")):  # fmt: skip
        raw.aug.rotate.border_mode.path = path
        with pytest.raises(UserError, match=words):
            validate(raw)
    raw.aug.rotate.border_mode = "${cv2:BORDER_REFLEKT}"
    with pytest.raises(UserError, match="BORDER_REFLEKT is not a constant of OpenCV"):
        validate(raw)


def test_a_pipeline_of_an_earlier_version_is_the_same_recipe():
    """Its runs stand beside new ones, and go on: on CIFAR-10 the colour is the same in numbers."""
    for data, same in (("cifar10", True), ("shapes", False)):
        new = compose([f"data={data}", "aug=cutout_rotate"])
        old = compose([f"data={data}", "aug=cutout_rotate", "aug.cutout.fill=[125,123,114]"])
        old.aug.rotate.border_mode = {
            "_target_": "hydra.utils.get_object", "path": "cv2.BORDER_REFLECT_101",
        }  # fmt: skip
        assert (validate(old).aug == validate(new).aug) == same
    assert validate(old).aug["cutout"]["fill"] == [125, 123, 114]


def test_a_trusted_package_may_be_named(tmp_path, monkeypatch, image):
    (tmp_path / "ownaug.py").write_text(
        textwrap.dedent("""
        import albumentations as A
        class Invert(A.ImageOnlyTransform):
            def apply(self, img, **params):
                return 255 - img
        def function():
            pass
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    aug = {"x": {"_target_": "ownaug.Invert", "p": 1}}
    pipeline = build_pipeline(aug, 1, trusted=["ownaug"])
    assert np.array_equal(pipeline(image, 0, 0), 255 - image)
    for target, trusted in (("ownaug.Invert", []), ("ownaug.function", ["ownaug"]),
                            ("ownaug.Missing", ["ownaug"]), ("ownaug2.X", ["ownaug"])):  # fmt: skip
        with pytest.raises(UserError, match=r"aug\.x\._target_"):
            build_pipeline({"x": {"_target_": target}}, 1, trusted=trusted)
    assert "ownaug2" not in sys.modules


@pytest.fixture
def open_ended(tmp_path, monkeypatch):
    """Invert of a package of one's own, which hands on to Albumentations what it does not know."""
    (tmp_path / "openaug.py").write_text(
        textwrap.dedent("""
        import albumentations as A
        class Invert(A.ImageOnlyTransform):
            def __init__(self, *rest, amount=10, **kwargs):
                super().__init__(**kwargs)
                self.amount = amount
            def apply(self, img, **params):
                return 255 - img
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)

    def build(**settings):
        aug = {"x": {"_target_": "openaug.Invert", **settings}}
        return build_pipeline(aug, 1, trusted=["openaug"]).transforms["x"]

    return build


def test_a_transform_that_hands_on_its_arguments_may_be_given_any(open_ended):
    built = open_ended(p=0.25, amount=3)
    assert (built.p, built.amount) == (0.25, 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"limit": 3}, ["aug.x: Invert: ", "limit"]),
        ({"p": 7}, ["aug.x", "p"]),
        ({"seed": 3}, ["aug.x: Invert has no argument 'seed'", "valid: amount"]),
    ],
)
def test_what_the_constructor_refuses_is_said_in_one_line(open_ended, settings, words):
    with pytest.raises(UserError) as refused:
        open_ended(**settings)
    (line,) = str(refused.value).splitlines()
    for word in words:
        assert word in line
    assert "kwargs" not in line
    assert "rest" not in line


def test_a_part_of_a_package_may_be_trusted_alone(tmp_path, monkeypatch):
    """What `validate` lets in for `trust=[package.part]` is built, and nothing beside it."""
    for part in ("safe", "safer"):
        folder = tmp_path / "ownparts" / part
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            "import albumentations as A\nclass Mine(A.NoOp):\n    pass\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    mine = {"x": {"_target_": "ownparts.safe.Mine"}}
    assert not refusals(mine, trusted=["ownparts.safe"])
    pipeline = build_pipeline(mine, 1, trusted=["ownparts.safe"])
    assert type(pipeline.transforms["x"]).__module__ == "ownparts.safe"
    with pytest.raises(UserError, match="no such transform"):
        build_pipeline({"x": {"_target_": "ownparts.safer.Mine"}}, 1, trusted=["ownparts.safe"])
    assert "ownparts.safer" not in sys.modules


def refused(aug: dict) -> list[str]:
    with pytest.raises(UserError) as caught:
        build_pipeline(aug, 1)
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
        (3, ["aug.x=3", "_target_"]),
        ({"_target_": "albumentations.Rotate", "limit": float("nan")}, ["limit=nan", "finite"]),
        ({"_target_": "albumentations.Affine", "scale": {"x": [1, float("inf")]}}, ["finite"]),
        ({"_target_": "albumentations.OneOf", "transforms": [
          {"_target_": "albumentations.Rotate", "limit": [0, float("-inf")]}]},
         ["aug.x.transforms.0.limit", "finite"]),
        ({"_target_": "albumentations.OneOf", "transforms": []}, ["aug.x.transforms", "a list"]),
        ({"_target_": "albumentations.OneOf", "transforms": [FLIP], "p": 2}, ["aug.x.p=2", "0 to 1"]),
        ({"_target_": "albumentations.OneOf", "transforms": {"a": {**FLIP, "p": 7}}},
         ["aug.x.transforms.a.p=7"]),
        ({"_target_": "albumentations.SomeOf", "transforms": [FLIP], "n": "two"},
         ["aug.x.n=two", "1 or more"]),
        ({"_target_": "augcam.data.augment.PadCrop", "padding": 0}, ["padding=0", "at least 1"]),
        ({"_target_": "augcam.data.augment.Cutout", "sise": 8}, ["did you mean size"]),
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
        build_pipeline({"x": settings}, seed=1).check(image)
    assert "aug.x" in str(caught.value)
    assert words in str(caught.value)


CLASSES = ("cat", "deer", "dog")


@pytest.mark.parametrize(
    ("keys", "restricted"),
    [
        ({"classes": ["cat", "dog"]}, {0, 2}),
        ({"except": ["deer"]}, {0, 2}),
        ({"classes": "deer"}, {1}),
        ({"classes": None, "except": ["deer", "cat"]}, {2}),
        ({"classes": ["dog", "deer", "cat"]}, None),
        ({"except": []}, None),
        ({"classes": None}, None),
    ],
)
def test_a_transform_is_kept_to_some_classes_and_its_class_never_hears_of_it(keys, restricted):
    pipeline = build_pipeline({"flip": FLIP | keys}, 1, classes=lambda: CLASSES)
    assert pipeline.only == ({} if restricted is None else {"flip": restricted})
    assert isinstance(pipeline.transforms["flip"], A.HorizontalFlip)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"classes": ["cat", "dgo"]}, ["aug.flip.classes: dgo", "did you mean dog", "cat, deer"]),
        ({"except": ["a"]}, ["aug.flip.except: a: there is no such class"]),
        ({"classes": ["cat"], "except": ["dog"]}, ["classes=[cat] and except=[dog]", "one of"]),
        ({"classes": []}, ["aug.flip.classes=[]: no class is left", "~aug.flip"]),
        ({"except": list(CLASSES)}, ["no class is left"]),
        ({"classes": {"cat": 1}}, ["a list of class names"]),
    ],
)
def test_classes_that_cannot_be_are_refused_in_one_line(keys, words):
    with pytest.raises(UserError) as refused:
        build_pipeline({"flip": FLIP | keys}, 1, classes=lambda: CLASSES)
    (line,) = str(refused.value).splitlines()
    for word in words:
        assert word in line


def test_of_many_classes_the_first_ten_are_listed():
    names = [f"kind {number}" for number in range(11)]
    with pytest.raises(UserError) as refused:
        build_pipeline({"flip": FLIP | {"classes": ["cat"]}}, 1, classes=lambda: names)
    assert str(refused.value).endswith("classes: " + ", ".join(names[:10]) + ", ...")


def test_only_a_whole_entry_can_be_kept_to_classes():
    choice = {"_target_": "albumentations.OneOf", "transforms": [FLIP | {"classes": ["cat"]}]}
    with pytest.raises(UserError, match=r"aug\.one\.transforms\.0\.classes: only a whole entry"):
        build_pipeline({"one": choice}, 1, classes=lambda: CLASSES)
    pipeline = build_pipeline({"one": {**choice, "transforms": [FLIP], "classes": ["cat"]}}, 1,
                              classes=lambda: CLASSES)  # fmt: skip
    assert pipeline.only == {"one": {0}}


def test_classes_come_from_the_command_line_without_a_plus():
    overrides = [
        "data=shapes",
        "aug=cutout_rotate",
        "aug.rotate.except=[triangle]",
        "aug.cutout.p=1",
    ]
    aug = validate(compose(overrides)).aug
    assert aug["rotate"]["except"] == ["triangle"]
    assert "except" not in aug["cutout"]
