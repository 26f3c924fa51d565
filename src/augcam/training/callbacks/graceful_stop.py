"""Ctrl-C and SIGTERM: stop between two batches, with everything saved."""

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer

log = logging.getLogger(__name__)


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
