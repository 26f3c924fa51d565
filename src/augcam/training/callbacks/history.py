"""What a run shows and keeps while it goes on: scalars, progress, previews, and a clean stop."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer

from augcam.training.callbacks.pictures import epochs_done, tensorboard
from augcam.training.module import Classifier

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Keeps the run's history and speed, and writes its scalars to TensorBoard.

    Epoch scalars stand at the epoch's number (from 1), `lr` and `train/step_loss` at the optimizer
    step, every `log_every_n_steps`. `history` has one flat row an epoch; it survives a resume, and so
    do the clocks.
    """

    def __init__(self, log_every_n_steps: int) -> None:
        self.log_every_n_steps = log_every_n_steps
        self.history: list[dict[str, float]] = []
        self.images = 0
        self.train_seconds = 0.0
        self.wall_seconds_before = 0.0
        self._began = self._mark = time.perf_counter()
        self._validated = False

    @property
    def wall_seconds(self) -> float:
        """Seconds since the run began, over all its parts where it was stopped and continued."""
        return self.wall_seconds_before + time.perf_counter() - self._began

    @property
    def images_per_second(self) -> float:
        """Training images a second, validation and pictures left out; 0.0 before the first batch."""
        return self.images / self.train_seconds if self.train_seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "images": self.images,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.images = state_dict["images"]
        self.train_seconds = state_dict["train_seconds"]
        self.wall_seconds_before = state_dict["wall_seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()
        writer = tensorboard(trainer)
        if writer and not self.history:
            writer.add_custom_scalars(_LAYOUT)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Before the step: after a OneCycle's last step the stored rate is past the end of the cycle.
        writer = tensorboard(trainer)
        if writer and batch_idx % self.log_every_n_steps == 0:
            writer.add_scalar(
                "lr", trainer.optimizers[0].param_groups[0]["lr"], trainer.global_step
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize()  # the steps that are queued belong to the epoch's time
        now = time.perf_counter()
        self.train_seconds += now - self._mark
        self._mark = now
        self.images += len(batch[1]) * trainer.world_size
        writer = tensorboard(trainer)
        if writer and batch_idx % self.log_every_n_steps == 0:
            loss = outputs["loss"] * trainer.accumulate_grad_batches  # Lightning has divided it
            writer.add_scalar("train/step_loss", float(loss), trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        epoch = epochs_done(trainer)
        values = {f"train/{name}": value for name, value in pl_module.train_metrics().items()}
        if self._validated:
            shown = trainer.callback_metrics
            values |= {k: float(v) for k, v in shown.items() if k.startswith("val/")}
        self._validated = False
        row = {"epoch": epoch} | {k: v for k, v in values.items() if "/accuracy_class/" not in k}
        self.history.append(row | {"wall_seconds": round(self.wall_seconds, 1)})
        if writer := tensorboard(trainer):
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)
        if trainer.is_global_zero:
            log.info(epoch_line(row, trainer.max_epochs or 0, self.images_per_second))
        self._mark = time.perf_counter()


def epoch_line(row: Mapping[str, float], epochs: int, images_per_second: float) -> str:
    """One epoch of the history in words, such as `epoch 3/35  train loss 1.02 acc 63.1%  ...`."""
    parts = [f"epoch {int(row['epoch'])}/{epochs}"]
    for split in ("train", "val"):
        if f"{split}/loss" in row:
            accuracy = row[f"{split}/accuracy"]
            parts.append(f"{split} loss {row[f'{split}/loss']:.3f} acc {accuracy:.1%}")
    parts.append(f"{images_per_second:,.0f} img/s")
    return "  ".join(parts)


_LAYOUT = {
    "AugCAM": {
        "loss": ["Multiline", ["train/loss$", "val/loss$"]],
        "accuracy": ["Multiline", ["train/accuracy$", "val/accuracy$"]],
        "accuracy of each class": ["Multiline", ["val/accuracy_class/.*"]],
    }
}
