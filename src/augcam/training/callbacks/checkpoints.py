"""Checkpoints that are whole or not there, and in an order that a kill cannot spoil."""

import io
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from augcam.atomic import atomic_file
from augcam.config.schema import Config, plain
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder


def checkpoints(config: Config, folder: RunFolder) -> list[Callback]:
    """`best.ckpt` at the highest validation accuracy, `last.ckpt` after every epoch, in this order.

    A run goes on from `last.ckpt`. Killed between the two, it makes the epoch again and writes the
    same `best.ckpt` once more; the other way round it would take the epoch for done and never write it.
    """
    always: dict[str, Any] = {
        "dirpath": folder.checkpoints,
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    kept: list[Callback] = [Checkpoint(filename="last", **always)]
    if config.data.holdout and config.trainer.limit_val_batches != 0:
        kept.insert(0, Checkpoint(filename="best", monitor="val/accuracy", mode="max", **always))
    return kept


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
    """Checkpoints that a kill cannot leave half-written, and that hold the run's config.

    The `last.ckpt` that a new one replaces stays beside it as `previous.ckpt`, for the day on which
    the disk gives back other bits than it was given.
    """

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        self._known_to_load = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        target = Path(path)
        keep = self.folder.previous if target.name == self.folder.last.name else None
        with atomic_file(target, keep) as file:
            try:
                if not self._known_to_load:
                    refuse_what_cannot_be_read_again(checkpoint)
                    self._known_to_load = True
                torch.save(checkpoint | {"config": plain(self.config)}, file)
            except RuntimeError as error:
                # torch's writer hides what the file said behind a complaint about its position.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


def refuse_what_cannot_be_read_again(checkpoint: Mapping[str, Any]) -> None:
    """Refuse, at the first checkpoint and not at the last, state that no checkpoint gives back.

    They are read with `weights_only=True`: tensors, numbers, texts, lists and dicts. A callback or an
    optimizer of the user's own may keep other things, such as NumPy's numbers.

    Raises:
        UserError: whose state it is, and what is in it.
    """
    parts = {
        key: value for key, value in checkpoint.items() if key not in ("state_dict", "callbacks")
    }
    parts |= {f"callbacks: {name}": state for name, state in checkpoint["callbacks"].items()}
    for name, state in parts.items():
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        try:
            torch.load(file, weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = f"{found[1]}, which" if found else "what"
            raise UserError(
                f"{name}: its state holds {what} a checkpoint cannot give back; tensors, numbers, "
                "texts, lists and dicts can be kept (float(...) of a NumPy number)"
            ) from None
