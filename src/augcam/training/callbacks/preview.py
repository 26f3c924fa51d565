"""What the augmentation does to the training images, shown once, before the first epoch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer

from augcam.data.augment.pipeline import Pipeline
from augcam.training.callbacks.pictures import keep_picture, log_image
from augcam.viz.grid import augmentation_grid


class AugmentationPreview(Callback):
    """At the start: raw training images beside augmented draws of each, as TensorBoard and a PNG.

    Args:
        images: uint8 (N, H, W, 3), the raw samples.
        labels: N, the class of each.
        classes: the names of all classes.
        pipeline: the random part of the training augmentation.
        draws: augmented versions of each sample.
        path: where the PNG goes.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Sequence[int],
        classes: Sequence[str],
        pipeline: Pipeline,
        draws: int,
        path: Path,
    ) -> None:
        self.images, self.labels, self.classes = images, labels, classes
        self.pipeline, self.draws, self.path = pipeline, draws, path

    def on_fit_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run or len(self.images) == 0:  # type: ignore[attr-defined]
            return
        if trainer.current_epoch > 0:
            return
        picture = preview_picture(self.images, self.labels, self.classes, self.pipeline, self.draws)
        log_image(trainer, "augmentation/preview", picture, 0)
        keep_picture(picture, self.path)


def preview_picture(
    images: np.ndarray,
    labels: Sequence[int],
    classes: Sequence[str],
    pipeline: Pipeline,
    draws: int,
) -> np.ndarray:
    """Raw images, uint8 (N, H, W, 3), beside augmented draws of each: uint8 (height, width, 3)."""

    def augment(image: np.ndarray, draw: int, index: int) -> np.ndarray:
        return pipeline(image, draw, index, labels[index])

    return augmentation_grid(images, [classes[label] for label in labels], augment, draws)


def first_of_each_class(labels: torch.Tensor | np.ndarray, count: int) -> list[int]:
    """`count` indices that go round the classes: the first image of each, then the second ..."""
    order = np.asarray(labels)
    ranks = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(order):
        where = np.flatnonzero(order == label)
        ranks[where] = np.arange(len(where))
    chosen = np.lexsort((order, ranks))[:count]
    return [int(index) for index in chosen]
