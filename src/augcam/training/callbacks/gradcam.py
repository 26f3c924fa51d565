"""The Lightning callback: each epoch's mistakes and where the network looked, in TensorBoard."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from augcam.explain.cam import GradCAM
from augcam.explain.overlay import overlay
from augcam.training.callbacks.pictures import epochs_done, keep_picture, log_image, log_scalars
from augcam.viz.grid import TEXT_FOR_TENSORBOARD, captioned_grid, denormalize

_SEEN = 0.2  # a smaller part of a mixture can hardly be seen
_LOOKED_AT = 20  # of an epoch's first batches, until one has such mixtures: to look costs a wait


class GradCamPanels(Callback):
    """Two pictures an epoch: what is wrong now, and the same images as they were from the start.

    `gradcam/misclassified`: the K validation images that the network gets wrong most confidently (or
    K random ones of those), remembered as validation passes over them: image | CAM of the predicted
    class | CAM of the true class. `gradcam/tracked`: the K of the first epoch, at every epoch after,
    so that TensorBoard's slider shows the network changing its mind. Where batches are mixed,
    `gradcam/mixed` has K training images as the epoch met them, mixtures: image | CAM of the class with
    the larger share | CAM of the other. All stand at the epoch's number (from 1); `gradcam/seconds` is
    what they cost.

    The network is explained in float32 and left as it was: see `augcam.explain.cam.GradCAM`.

    Args:
        classes: the C class names.
        mean, std: of the normalisation, in 0..1, to show images as they were.
        images: K; 0 turns the panels off.
        choice: `most_confident` or `random`.
        layer: the target layer, such as `layer4`, or `auto`.
        method: of `augcam.explain.cam`.
        every_n_epochs: epochs from one pair of pictures to the next.
        seed: of the random choice.
        figures: folder for PNGs of the newest pair.
    """

    def __init__(
        self,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        images: int,
        choice: str,
        layer: str,
        method: str,
        every_n_epochs: int,
        seed: int,
        figures: Path,
    ) -> None:
        self.classes, self.mean, self.std = classes, mean, std
        self.images, self.choice = images, choice
        self.layer, self.method = layer, method
        self.every_n_epochs = every_n_epochs
        self.seed = seed
        self.figures = figures
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None
        self._tracked: tuple[Tensor, Tensor] | None = None
        self._mixed: tuple[Tensor, Tensor] | None = None
        self._random = torch.Generator()

    def state_dict(self) -> dict[str, Any]:
        if self._tracked is None:
            return {}
        images, labels = self._tracked
        return {"images": images.cpu(), "labels": labels.cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            self._tracked = state_dict["images"], state_dict["labels"]

    def _is_due(self, trainer: Trainer) -> bool:
        return (
            self.images > 0
            and not trainer.sanity_checking
            and epochs_done(trainer) % self.every_n_epochs == 0
        )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._mixed = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the epoch's first mixtures of which both parts can be seen."""
        images, labels, _index = batch
        if labels.ndim != 2 or self._mixed or batch_idx >= _LOOKED_AT or not self._is_due(trainer):
            return
        smaller = labels.topk(2, dim=1).values[:, 1]
        chosen = (smaller >= _SEEN).nonzero()[: self.images, 0]
        if len(chosen):
            self._mixed = images[chosen], labels[chosen]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._kept = None
        self._random.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._is_due(trainer):
            return
        images, labels, _index = batch
        confidence, predicted = outputs.softmax(dim=1).max(dim=1)
        if self.choice == "random":
            confidence = torch.rand(len(labels), generator=self._random).to(confidence)
        # Right answers rank below every mistake. All of it stays on the device: no wait for it here.
        rank = torch.where(predicted != labels, confidence, -1.0)
        rank, chosen = rank.topk(min(self.images, len(rank)))
        candidates = rank, images[chosen], labels[chosen]
        if self._kept is not None:
            candidates = tuple(torch.cat(pair) for pair in zip(self._kept, candidates, strict=True))  # type: ignore[assignment]
        rank, chosen = candidates[0].topk(min(self.images, len(candidates[0])))
        self._kept = rank, candidates[1][chosen], candidates[2][chosen]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        # Here, and not in on_validation_end: a callback that validates the average of the weights swaps
        # them back in this hook, after ours, and the mistakes are the average's.
        if not self._is_due(trainer):
            return
        began = time.perf_counter()
        kept, self._kept = self._kept, None
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            mine = None if kept is None else tuple(part.cpu() for part in kept)
            torch.distributed.all_gather_object(gathered, mine)
            parts = list(zip(*(one for one in gathered if one is not None), strict=True))
            kept = (
                (torch.cat(parts[0]), torch.cat(parts[1]), torch.cat(parts[2])) if parts else None
            )
        if not trainer.is_global_zero or kept is None:
            return
        rank, chosen = kept[0].topk(min(self.images, len(kept[0])))
        images, labels = (part[chosen].to(pl_module.device) for part in kept[1:])
        wrong = rank >= 0
        wrong = wrong.to(pl_module.device)
        images, labels = images[wrong], labels[wrong]
        if self._tracked is None and len(images):
            self._tracked = images.clone(), labels.clone()
        if self._tracked is not None:
            self._draw(trainer, pl_module, images, labels)
        if self._mixed is not None:
            self._draw_mixed(trainer, pl_module, *self._mixed)
        seconds = time.perf_counter() - began
        log_scalars(trainer, {"gradcam/seconds": seconds}, epochs_done(trainer))

    def _draw(
        self, trainer: Trainer, pl_module: pl.LightningModule, images: Tensor, labels: Tensor
    ) -> None:
        assert self._tracked is not None
        network = pl_module.network
        assert isinstance(network, torch.nn.Module)
        everything = torch.cat([images, self._tracked[0].to(images)])
        truth = torch.cat([labels, self._tracked[1].to(labels)])
        with GradCAM(network, layers=(self.layer,), method=self.method) as cam:
            of_predicted = cam(everything, None)
            of_true = cam(everything, truth)
            layer = cam.layers[0]
        confidence, predicted = of_predicted.logits.softmax(dim=1).max(dim=1)

        shown = denormalize(everything, self.mean, self.std)
        columns = [shown]
        for maps in (of_predicted[layer], of_true[layer]):
            columns.append(overlay(shown, maps.heatmap.cpu().numpy(), maps.status))
        rows = [list(row) for row in zip(*columns, strict=True)]
        captions = [
            f"{self.classes[int(true)]} → {self.classes[int(answer)]}\n{float(sure):.0%}"
            for true, answer, sure in zip(truth, predicted, confidence, strict=True)
        ]
        headings = ["image", "CAM of\npredicted", "CAM of\ntrue"]
        for name, part in (
            ("misclassified", slice(0, len(images))),
            ("tracked", slice(len(images), None)),
        ):
            if not rows[part]:
                continue  # nothing is wrong any more
            self._show(trainer, name, rows[part], captions[part], headings)

    def _draw_mixed(
        self, trainer: Trainer, pl_module: pl.LightningModule, images: Tensor, shares: Tensor
    ) -> None:
        """Mixtures (B, 3, H, W), and what speaks for each of the two classes that they are made of."""
        network = pl_module.network
        assert isinstance(network, torch.nn.Module)
        share, classes = shares.topk(2, dim=1)
        with GradCAM(network, layers=(self.layer,), method=self.method) as cam:
            of_both = [cam(images, classes[:, part]) for part in (0, 1)]
            layer = cam.layers[0]
        confidence = of_both[0].logits.softmax(dim=1).gather(1, classes)
        shown = denormalize(images, self.mean, self.std)
        columns = [shown]
        for maps in of_both:
            columns.append(overlay(shown, maps[layer].heatmap.cpu().numpy(), maps[layer].status))
        rows = [list(row) for row in zip(*columns, strict=True)]
        captions = [
            "\n".join(
                f"{float(part):.0%} {self.classes[int(name)]}: {float(sure):.0%}"
                for name, part, sure in zip(*image, strict=True)
            )
            for image in zip(classes, share, confidence, strict=True)
        ]
        headings = ["mixture", "CAM of\nlarger part", "CAM of\nsmaller part"]
        self._show(trainer, "mixed", rows, captions, headings)

    def _show(
        self,
        trainer: Trainer,
        name: str,
        rows: Sequence[Sequence[np.ndarray]],
        captions: Sequence[str],
        headings: Sequence[str],
    ) -> None:
        picture = captioned_grid(rows, captions, headings, TEXT_FOR_TENSORBOARD)
        log_image(trainer, f"gradcam/{name}", picture, epochs_done(trainer))
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            keep_picture(picture, self.figures / f"gradcam_{name}.png")


def epochs_between_panels(every_n_epochs: int | Literal["auto"], epochs: int, images: int) -> int:
    """`explain.every_n_epochs` as a number: `auto` makes at most 50 pairs of pictures in a run.

    A pair of 8 images each takes about 0.2 MB of an event file; more images make fewer pairs.
    """
    if every_n_epochs != "auto":
        return every_n_epochs
    return max(1, math.ceil(epochs * max(images, 8) / (50 * 8)))
