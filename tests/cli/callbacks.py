"""Callbacks as a user would bring them, for runs in processes of their own."""

import os
import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning import Callback, Trainer


class SignalInBatch(Callback):
    """A signal to the run's own process, while it is in the batch after `steps` optimizer steps."""

    def __init__(self, signum: int, steps: int) -> None:
        self.signum, self.steps = signum, steps

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:
            os.kill(os.getpid(), self.signum)


class WaitInEpoch(Callback):
    """Holds the run in the first batch of epoch `epoch` (from 1) until there is such a file."""

    def __init__(self, epoch: int, until: str) -> None:
        self.epoch, self.until = epoch, Path(until)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        while trainer.current_epoch + 1 == self.epoch and not self.until.exists():
            time.sleep(0.02)
