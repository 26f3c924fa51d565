"""A run whose loss is not a number any more ends there, and not twenty epochs later with a result."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer

from augcam.errors import RunError


class NonFiniteError(RunError):
    """A loss or a weight is infinite or not a number."""

    def __init__(self, what: str, step: int, learning_rate: float) -> None:
        super().__init__(f"{what} at optimizer step {step}, learning rate {learning_rate:.4g}")


class FiniteLoss(Callback):
    """Raises `NonFiniteError` when a training, validation or test loss is infinite or NaN.

    On a GPU the losses are looked at every `trainer.log_every_n_steps` steps and at each epoch's end,
    before its checkpoint: looking at each would make the host wait. The step that is named is the first
    bad one. Several ranks look at the epoch's end alone, and stop together.
    """

    def __init__(self) -> None:
        self._first: torch.Tensor | None = (
            None  # the first bad step, on the device; inf: none so far
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loss = outputs["loss"].detach()
        if self._first is None:
            self._first = torch.full((), math.inf, device=loss.device)
        # float32 counts to 16 million exactly; the loss was that of the step that has just been made
        step = torch.where(torch.isfinite(loss), math.inf, float(trainer.global_step))
        self._first = torch.minimum(self._first, step)
        last = batch_idx + 1 >= trainer.num_training_batches
        often = loss.device.type == "cpu" or batch_idx % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if last or (often and trainer.world_size == 1):
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._look_at(trainer, "val/loss")

    def on_test_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._look_at(trainer, "test/loss")

    def _look(self, trainer: Trainer) -> None:
        first = math.inf if self._first is None else float(self._first)
        bad = math.isfinite(first)
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce_boolean_decision(bad, all=False)
        if bad:
            step = int(first) if math.isfinite(first) else trainer.global_step
            raise NonFiniteError("the training loss is not finite", step, learning_rate(trainer))

    def _look_at(self, trainer: Trainer, name: str) -> None:
        # The value is that of all ranks already.
        if not math.isfinite(trainer.callback_metrics.get(name, 0.0)):
            raise NonFiniteError(
                f"{name} is not finite", trainer.global_step, learning_rate(trainer)
            )


def learning_rate(trainer: Trainer) -> float:
    """The rate of the first parameter group; NaN where there is no optimizer."""
    return trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else math.nan
