"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

import errno
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from augcam.config.schema import Config, plain


class Checkpoint(ModelCheckpoint):
    """Lightning's, in a folder that may have been moved, and silent in epochs without validation."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        old, new = state_dict["dirpath"], str(self.dirpath)

        def moved(path: str) -> str:
            return path.replace(old, new, 1)

        here = state_dict | {"dirpath": new}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            here[key] = moved(here[key])
        here["best_k_models"] = {moved(k): v for k, v in here["best_k_models"].items()}
        super().load_state_dict(here)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that a kill cannot leave half-written, and that hold the run's config."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            torch.save(checkpoint | {"config": plain(self.config)}, beside)
            beside.replace(target)
        except RuntimeError as error:
            if "write" not in str(error):
                raise
            raise OSError(errno.ENOSPC, "no space left for a checkpoint", str(target)) from None
        finally:
            beside.unlink(missing_ok=True)
