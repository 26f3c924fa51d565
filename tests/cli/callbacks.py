"""A callback as a user would bring one, for runs in processes of their own."""

import os

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
