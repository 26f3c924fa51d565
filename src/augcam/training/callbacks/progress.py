"""How far the run is, on a terminal and in a log file."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer
from rich import get_console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from augcam.training.callbacks.history import Recorder
from augcam.training.callbacks.pictures import epochs_done

log = logging.getLogger(__name__)


class ProgressDisplay(Callback):
    """A bar for the whole run on a terminal; a line every `seconds` where output is a file or pipe."""

    def __init__(self, recorder: Recorder, seconds: float = 30.0) -> None:
        self.recorder = recorder
        self.seconds = seconds
        self.bar: Progress | None = None
        self._last = self._began = 0.0
        self._steps_before = 0
        self._loss = float("nan")

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._began = self._last = time.monotonic()
        self._steps_before = self._batches(trainer)
        if trainer.is_global_zero and get_console().is_terminal:
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]:.3f}"),
                TextColumn("val acc {task.fields[accuracy]}  {task.fields[speed]:,.0f} img/s  ETA"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=get_console(),
                refresh_per_second=4,
            )
            self.bar.start()
            self.bar.add_task("run", total=self._total(trainer), **self._fields(trainer))
            self.bar.update(self.bar.task_ids[0], completed=self._steps_before)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._last < (0.5 if self.bar else self.seconds):
            return
        # Reading the loss waits for the device: here, twice a second, and not at every step.
        self._loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self._last = now
        if self.bar:
            done = self._batches(trainer)
            self.bar.update(self.bar.task_ids[0], completed=done, **self._fields(trainer))
        else:
            fields = self._fields(trainer)
            done, total = self._batches(trainer), self._total(trainer)
            left = (now - self._began) / max(1, done - self._steps_before) * (total - done)
            minutes, seconds = divmod(int(left), 60)
            log.info(
                "  epoch %s  batch %d/%d  loss %.3f  %.0f img/s  ETA %d:%02d:%02d",
                fields["epoch"], batch_idx + 1, trainer.num_training_batches, self._loss,
                fields["speed"], minutes // 60, minutes % 60, seconds,
            )  # fmt: skip

    def on_train_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar:
            self.bar.update(
                self.bar.task_ids[0], completed=self._batches(trainer), **self._fields(trainer)
            )
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _batches(self, trainer: Trainer) -> int:
        return trainer.fit_loop.epoch_loop.total_batch_idx + 1

    def _total(self, trainer: Trainer) -> int:
        batches = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        if trainer.max_steps == -1:
            return batches
        return min(batches, trainer.max_steps * trainer.accumulate_grad_batches)

    def _fields(self, trainer: Trainer) -> dict[str, Any]:
        accuracy = trainer.callback_metrics.get("val/accuracy")
        return {
            "epoch": f"{epochs_done(trainer)}/{trainer.max_epochs}",
            "loss": self._loss,
            "accuracy": f"{float(accuracy):.1%}" if accuracy is not None else "-",
            "speed": self.recorder.images_per_second,
        }
