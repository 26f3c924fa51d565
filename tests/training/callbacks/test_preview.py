"""The grid at the start of a run."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from augcam.data.augment.build import build_pipeline
from augcam.training.callbacks.preview import (
    AugmentationPreview,
    _in_shares,
    first_of_each_class,
    preview_picture,
)
from tests.training.conftest import tiny_run

FLIP = {"flip": {"_target_": "albumentations.HorizontalFlip", "p": 1.0}}
LIGHTNING: Any = None


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, True),
        ({"is_global_zero": False}, False),
        ({"fast_dev_run": True}, False),
    ],
)
def test_it_is_drawn_by_the_first_rank_of_a_real_run(tmp_path, images, changes, made):
    usual = {"is_global_zero": True, "fast_dev_run": False, "global_step": 0, "loggers": []}
    trainer: Any = SimpleNamespace(**usual | changes)
    pipeline, path = build_pipeline(FLIP, 1), tmp_path / "preview.png"
    callback = AugmentationPreview(images, [0, 1], ["a", "b"], pipeline, 3, path)
    callback.on_train_start(trainer, LIGHTNING)
    assert path.exists() == made
    if made:
        with Image.open(path) as drawn:
            picture = preview_picture(images, [0, 1], ["a", "b"], pipeline, 3)
            assert np.array_equal(np.asarray(drawn), picture)


def test_a_run_that_goes_on_does_not_draw_it_again(tmp_path, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 2, "preview.samples=2")
    picture = folder.figures / "augmentation_preview.png"
    picture.unlink()
    tiny_run(folder.path, "preview.samples=2")
    assert not picture.exists()


def test_images_go_round_the_classes():
    labels = np.array([2, 0, 0, 1, 2, 1, 0])
    assert first_of_each_class(labels, 5) == [1, 3, 0, 2, 5]
    assert first_of_each_class(torch.from_numpy(labels), 2) == [1, 3]


def test_shares_are_named_from_the_largest_and_crumbs_are_left_out():
    classes = ["cat", "dog", "ship"]
    assert _in_shares(torch.tensor([0.3, 0.7, 0.0]), classes) == "dog 70%, cat 30%"
    assert _in_shares(torch.tensor([0.997, 0.003, 0.0]), classes) == "cat"


def test_a_run_that_mixes_shows_mixed_batches(tmp_path):
    pictures = []
    for mix in ("none", "mixup"):
        run = tiny_run(tmp_path / mix, "preview.samples=2", f"mix={mix}", "trainer.max_epochs=1")
        pictures.append(np.asarray(Image.open(run.folder.figures / "augmentation_preview.png")))
    plain, mixed = pictures
    assert mixed.shape[1] > plain.shape[1]  # its captions name the shares
