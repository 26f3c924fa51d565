"""The run's history, epoch by epoch, its speed, and its scalars in the loggers."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer

from augcam.training.callbacks.finite_loss import learning_rate
from augcam.training.callbacks.pictures import epochs_done, log_scalars, tensorboard
from augcam.training.module import Classifier

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Keeps the run's history and speed, and gives its scalars to the loggers.

    Epoch scalars stand at the epoch's number (from 1), `lr` and `train/step_loss` at the optimizer
    step, every `trainer.log_every_n_steps`. `history` has one flat row an epoch; it survives a resume,
    and so do the clocks.

    The first of the callbacks: what the others do after a batch, after validation and at an epoch's
    end (pictures, checkpoints) is no part of `train_seconds`.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self.images = 0
        self.train_seconds = 0.0
        self.wall_seconds_before = 0.0
        self._began = time.perf_counter()
        self._mark: float | None = None  # when the wait for the batch under way began
        self._validated = False

    @property
    def wall_seconds(self) -> float:
        """Seconds since the run began, over all its parts where it was stopped and continued."""
        return self.wall_seconds_before + time.perf_counter() - self._began

    @property
    def images_per_second(self) -> float:
        """Training images a second: from asking for a batch to the end of its step, over the batches.

        Validation, pictures and checkpoints are left out. 0.0 before the first batch.
        """
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
        self._mark = time.perf_counter()  # an epoch that goes on in its middle has no start
        writer = tensorboard(trainer)
        if writer and not self.history:
            assert isinstance(pl_module, Classifier)
            writer.add_custom_scalars(layout(pl_module.classes, trainer.enable_validation))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()  # by now the checkpoints of the epoch before are written

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Before the step: after a OneCycle's last step the stored rate is past the end of the cycle.
        if batch_idx % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            log_scalars(trainer, {"lr": learning_rate(trainer)}, trainer.global_step)

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
        # After a validation in mid-epoch nothing says when the pictures were drawn and the wait for
        # the next batch began: that batch is not counted, neither its images nor its time.
        if self._mark is not None:
            self.train_seconds += now - self._mark
            self.images += len(batch[1]) * trainer.world_size
        if trainer.is_global_zero and batch_idx % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches  # Lightning divided it
            log_scalars(trainer, {"train/step_loss": loss}, trainer.global_step)
        self._mark = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = None

    def on_validation_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

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
        log_scalars(trainer, values, epoch)
        if trainer.is_global_zero:
            log.info(epoch_line(row, trainer.max_epochs or 0, self.images_per_second))


def epoch_line(row: Mapping[str, float], epochs: int, images_per_second: float) -> str:
    """One epoch of the history in words, such as `epoch 3/35  train loss 1.02 acc 63.1%  ...`."""
    parts = [f"epoch {int(row['epoch'])}/{epochs}"]
    for split in ("train", "val"):
        if f"{split}/loss" in row:
            accuracy = row[f"{split}/accuracy"]
            parts.append(f"{split} loss {row[f'{split}/loss']:.3f} acc {accuracy:.1%}")
    parts.append(f"{images_per_second:,.0f} img/s")
    return "  ".join(parts)


def layout(classes: Sequence[str], validates: bool) -> dict[str, dict[str, list[Any]]]:
    """The charts of TensorBoard's Custom scalars page: accuracy, loss, and the accuracy of each class.

    TensorBoard gives a run one colour and smooths lines. A margin chart has a line and a shaded band,
    and shows the numbers as they are: validation is the line, and the band reaches to training. A chart
    of its own for each class keeps the runs' colours apart, and its band is empty.
    """
    if not validates:
        main = {name: _margin(f"train/{name}") for name in ("accuracy", "loss")}
        return {"AugCAM": _drawn_in_order(main)}
    of_each = {name: _margin(f"val/accuracy_class/{name}") for name in classes}
    main = {
        f"{name}: validation, shaded to training": _margin(f"val/{name}", f"train/{name}")
        for name in ("accuracy", "loss")
    }
    return {
        "AugCAM": _drawn_in_order(main),
        "validation accuracy of each class": _drawn_in_order(of_each),
    }


def _drawn_in_order(charts: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Margin charts as TensorBoard must read them to draw them in this order: the last one first.

    Each chart is two nodes of its page, and it puts chart k in front of its k-th node (`_insertItem` of
    `tf-category-paginated-view`). That is between the two nodes of chart k - 1, of which a margin chart
    is the second.
    """
    return dict(reversed(charts.items()))


def _margin(line: str, band: str = "") -> list[Any]:
    return ["Margin", [line, band or line, line]]
