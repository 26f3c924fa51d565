"""What a run shows and keeps while it goes on: scalars, progress, previews, and a clean stop."""

import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich import get_console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from augcam.data.augment import Pipeline
from augcam.model.classifier import Classifier
from augcam.pictures import augmentation_grid, save_png

log = logging.getLogger(__name__)


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """The run's TensorBoard writer; None on other ranks than the first and under fast_dev_run."""
    logger = trainer.logger
    if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
        return logger.experiment
    return None


def epochs_done(trainer: Trainer) -> int:
    """The number of the epoch under way, counted from 1: the step of epoch scalars and images."""
    return trainer.current_epoch + 1


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


class AugmentationPreview(Callback):
    """At the start: raw training images beside augmented draws of each, as TensorBoard and a PNG.

    Args:
        images: uint8 (N, H, W, 3), the raw samples.
        captions: N names, one for each.
        pipeline: the random part of the training augmentation.
        draws: augmented versions of each sample.
        path: where the PNG goes.
    """

    def __init__(
        self,
        images: np.ndarray,
        captions: Sequence[str],
        pipeline: Pipeline,
        draws: int,
        path: Path,
    ) -> None:
        self.images, self.captions = images, captions
        self.pipeline, self.draws, self.path = pipeline, draws, path

    def on_fit_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        writer = tensorboard(trainer)
        if writer is None or len(self.images) == 0 or trainer.current_epoch > 0:
            return
        picture = augmentation_grid(self.images, self.captions, self.pipeline, self.draws)
        writer.add_image("augmentation/preview", picture, 0, dataformats="HWC")
        save_png(picture, self.path)


class Stopped(BaseException):
    """Training was asked to stop by a signal, and did so between two batches, with all saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class GracefulStop(Callback):
    """On Ctrl-C or SIGTERM: finish the batch, write the last checkpoint, raise `Stopped`.

    A request during validation waits for its end, so that the epoch is whole. A second Ctrl-C
    stops at once, and what was saved last remains.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        # Here, and not earlier: Lightning installs a handler of its own before this hook.
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._remember)

    on_test_start = on_train_start

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.info("stopping after this batch (after validation, if that is running) ...")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        # Between two optimizer steps: gradients that were gathered are in no checkpoint.
        step, part = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        last = batch_idx + 1 >= trainer.num_training_batches
        if not last and part == 0 and self._asked(trainer, step):
            trainer.save_checkpoint(self.checkpoint)
            raise Stopped(self.signum or signal.SIGTERM)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        # The checkpoint of the epoch before is complete.
        if trainer.current_epoch > 0 and self._asked(trainer, 0):
            raise Stopped(self.signum or signal.SIGTERM)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # The last checkpoint is that of the last epoch. Several ranks finish the test: they may have
        # different numbers of batches, and would wait for each other.
        if trainer.world_size == 1 and self.signum is not None:
            raise Stopped(self.signum or signal.SIGTERM)

    def on_fit_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()
        if self._asked(trainer, 0):
            raise Stopped(self.signum or signal.SIGTERM)

    def on_test_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _asked(self, trainer: Trainer, step: int) -> bool:
        asked = self.signum is not None
        # Ranks get the signal at different batches and must stop at the same one.
        if trainer.world_size > 1 and step % 10 == 0:
            return trainer.strategy.reduce_boolean_decision(asked, all=False)
        return asked and trainer.world_size == 1


def first_of_each_class(labels: torch.Tensor | np.ndarray, count: int) -> list[int]:
    """`count` indices that go round the classes: the first image of each, then the second ..."""
    order = np.asarray(labels)
    ranks = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(order):
        where = np.flatnonzero(order == label)
        ranks[where] = np.arange(len(where))
    chosen = np.lexsort((order, ranks))[:count]
    return [int(index) for index in chosen]
