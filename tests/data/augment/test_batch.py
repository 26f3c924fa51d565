"""A batch at once is, bit for bit, what its images are one by one."""

import albumentations as A
import cv2
import numpy as np
import pytest

from augcam.data.augment.batch import TABLE, batch_form
from augcam.data.augment.build import build_pipeline
from augcam.data.augment.ops import AlternatingFlip, Cutout, PadCrop, Rotate
from augcam.data.augment.pipeline import Pipeline
from tests.conftest import ROOT
from tests.data.augment.test_pipeline import cifar_mean, composed

AUGS = sorted(path.stem for path in (ROOT / "conf/aug").glob("*.yaml"))
INDEX = np.array([0, 7, 12, 999, 49_999, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377])
LABELS = np.arange(len(INDEX)) % 4


def images(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (len(INDEX), height, width, 3), np.uint8)


def assert_alike(pipeline: Pipeline, batch: np.ndarray) -> int:
    """Compare both ways in three epochs; how many images were changed."""
    changed = 0
    for epoch in (0, 1, 30):
        together = batch.copy()
        pipeline.batch(together, epoch, INDEX, LABELS)
        for image, one, number, label in zip(
            together, batch, INDEX.tolist(), LABELS.tolist(), strict=True
        ):
            alone = pipeline(one.copy(), epoch, number, label)
            assert np.array_equal(image, alone), (epoch, number)
            changed += not np.array_equal(image, one)
    return changed


@pytest.mark.parametrize("name", AUGS)
def test_every_pipeline_of_conf(name):
    pipeline = build_pipeline(composed(f"aug={name}"), 3, cifar_mean)
    assert (assert_alike(pipeline, images()) > 0) == bool(pipeline.transforms)


FORMS = {
    "flip": A.HorizontalFlip(p=0.5),
    "always": A.HorizontalFlip(p=1),
    "never": A.HorizontalFlip(p=0),
    "alternating": AlternatingFlip(),
    "crop": PadCrop(padding=4),
    "reflected": PadCrop(padding=3, border_mode=cv2.BORDER_REFLECT_101, p=0.7),
    "cutout": Cutout(size=9, fill=(1, 2, 3), p=0.8),
    "one hole": A.CoarseDropout((1, 1), (8, 16), (8, 16), fill=(9, 8, 7), p=0.5),
    "several holes": A.CoarseDropout((1, 4), (1, 40), (2, 5), fill=3, p=1),
    "rotate": Rotate(limit=(-20, 70), border_mode=cv2.BORDER_REFLECT_101, p=0.6),
}
OTHER_WAYS = {
    "shares": A.CoarseDropout((1, 2), (0.1, 0.4), (0.2, 0.3), fill=3, p=1),
    "noise": A.CoarseDropout((1, 2), (3, 4), (5, 6), fill="random", p=1),
    "blur": A.Blur(p=1),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
def test_every_batch_form_also_before_a_transform_that_has_none(name, size):
    assert batch_form(FORMS[name])
    alone = Pipeline({"form": FORMS[name]}, seed=5)
    assert (assert_alike(alone, images(*size)) > 0) == (name != "never")
    steps = {"form": FORMS[name], "holes": FORMS["one hole"], "noise": A.GaussNoise(p=0.9)}
    assert_alike(Pipeline(steps, seed=5), images(*size))


@pytest.mark.parametrize("name", OTHER_WAYS)
def test_what_has_no_batch_form_goes_image_by_image(name):
    assert batch_form(OTHER_WAYS[name]) is None
    steps = {"flip": FORMS["flip"], "other": OTHER_WAYS[name], "crop": FORMS["crop"]}
    assert_alike(Pipeline(steps, seed=5), images())


def test_every_entry_of_the_table_is_tried_here():
    assert {type(transform) for transform in FORMS.values()} == set(TABLE)


def test_a_transform_for_some_classes_leaves_the_others_as_they_are():
    flip = Pipeline({"flip": A.HorizontalFlip(p=1)}, seed=5, only={"flip": {1, 2}})
    batch = images()
    together = batch.copy()
    flip.batch(together, 0, INDEX, LABELS)
    expected = np.where(np.isin(LABELS, [1, 2])[:, None, None, None], batch[:, :, ::-1], batch)
    assert np.array_equal(together, expected)
    steps = {"flip": FORMS["flip"], "cutout": FORMS["one hole"], "blur": OTHER_WAYS["blur"]}
    assert_alike(Pipeline(steps, seed=5, only={"flip": {0}, "cutout": {1, 3}}), batch)
