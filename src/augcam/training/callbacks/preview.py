"""What the augmentation does to the training images, shown once, before the first epoch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, Trainer

from augcam.data.augment.mix import Mix
from augcam.data.augment.pipeline import Pipeline
from augcam.training.callbacks.pictures import keep_picture, log_image
from augcam.viz.grid import TEXT_FOR_TENSORBOARD, captioned_grid


class AugmentationPreview(Callback):
    """At the start: raw training images beside augmented draws of each, as TensorBoard and a PNG.

    Args:
        images: uint8 (N, H, W, 3), the raw samples.
        labels: N, the class of each.
        classes: the names of all classes.
        pipeline: the random part of the training augmentation.
        mix: what happens to a batch then, if anything.
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
        mix: Mix | None = None,
    ) -> None:
        self.images, self.labels, self.classes = images, labels, classes
        self.pipeline, self.draws, self.path, self.mix = pipeline, draws, path, mix

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run or len(self.images) == 0:  # type: ignore[attr-defined]
            return
        # The run goes on. In earlier hooks its progress is not restored yet.
        if trainer.global_step > 0:
            return
        picture = preview_picture(
            self.images, self.labels, self.classes, self.pipeline, self.draws, self.mix
        )
        log_image(trainer, "augmentation/preview", picture, 0)
        keep_picture(picture, self.path)


def preview_picture(
    images: np.ndarray,
    labels: Sequence[int],
    classes: Sequence[str],
    pipeline: Pipeline,
    draws: int,
    mix: Mix | None = None,
) -> np.ndarray:
    """Raw images beside augmented draws of each, with captions: uint8 (height, width, 3).

    Arguments as `draw_samples`.
    """
    rows, captions = draw_samples(images, labels, classes, pipeline, draws, mix)
    return captioned_grid(rows, captions, headings(draws), TEXT_FOR_TENSORBOARD)


def headings(draws: int) -> list[str]:
    """Those of a row of `draw_samples`."""
    return ["raw", *(f"draw {number}" for number in range(1, draws + 1))]


def draw_samples(
    images: np.ndarray,
    labels: Sequence[int],
    classes: Sequence[str],
    pipeline: Pipeline,
    draws: int,
    mix: Mix | None = None,
) -> tuple[list[list[np.ndarray]], list[str]]:
    """Raw images, each before augmented draws of it, and a caption for each.

    With `mix`, the images of a draw are a batch and mixed with one another; the captions then name
    the classes that each draw is made of.

    Args:
        images: uint8 (N, H, W, 3).
        labels: N, the class of each.

    Returns:
        N rows of 1 + `draws` images, uint8 (H, W, 3), and N captions.
    """
    drawn = [
        np.stack(
            [pipeline(image, draw, index, labels[index]) for index, image in enumerate(images)]
        )
        for draw in range(draws)
    ]
    captions = [classes[label] for label in labels]
    if mix:
        shares = F.one_hot(torch.tensor(labels), len(classes)).float()
        for draw, batch in enumerate(drawn):
            floats = torch.from_numpy(batch).permute(0, 3, 1, 2).float()
            mixed, parts = mix(floats, shares, 0, draw)
            drawn[draw] = mixed.round().byte().permute(0, 2, 3, 1).numpy()
            for index, row in enumerate(parts):
                captions[index] += f"\n{draw + 1}: {_in_shares(row, classes)}"
    rows = [[image, *(batch[index] for batch in drawn)] for index, image in enumerate(images)]
    return rows, captions


def _in_shares(shares: torch.Tensor, classes: Sequence[str]) -> str:
    """`cat 70%, dog 30%`; of one class only its name."""
    largest = sorted(enumerate(shares.tolist()), key=lambda pair: -pair[1])
    named = [(classes[label], share) for label, share in largest if share >= 0.005]
    if len(named) == 1:
        return named[0][0]
    return ", ".join(f"{name} {share:.0%}" for name, share in named)


def first_of_each_class(labels: torch.Tensor | np.ndarray, count: int) -> list[int]:
    """`count` indices that go round the classes: the first image of each, then the second ..."""
    order = np.asarray(labels)
    ranks = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(order):
        where = np.flatnonzero(order == label)
        ranks[where] = np.arange(len(where))
    chosen = np.lexsort((order, ranks))[:count]
    return [int(index) for index in chosen]
