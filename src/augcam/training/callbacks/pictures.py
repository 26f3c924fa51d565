"""What callbacks show: scalars and pictures for whichever loggers the run has, and their step."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.tensorboard import SummaryWriter

from augcam.viz.grid import save_png

log = logging.getLogger(__name__)


def log_scalars(trainer: Trainer, values: Mapping[str, float], step: int) -> None:
    """Give scalars to every logger at `step`; on the first rank alone.

    `LightningModule.log` counts its own steps, in batches; charts over epochs need the epoch.
    """
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step)


def log_image(trainer: Trainer, tag: str, picture: np.ndarray, step: int) -> None:
    """Give a picture, uint8 (H, W, 3), to every logger that can keep one; on the first rank alone.

    Beside a CSV file it is a PNG, `images/TAG_STEP.png`; in MLflow an artifact of that name.
    """
    if not trainer.is_global_zero:
        return
    file = f"{tag}_{step:04d}.png"
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, picture, step, dataformats="HWC")
        elif isinstance(logger, CSVLogger):
            save_png(picture, Path(logger.log_dir) / "images" / file)
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [picture], step=step)
        elif isinstance(logger, MLFlowLogger) and logger.run_id is not None:
            logger.experiment.log_image(logger.run_id, picture, artifact_file=f"images/{file}")


def keep_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture, uint8 (H, W, 3), as PNG; one that cannot be written costs a warning."""
    try:
        save_png(picture, path)
    except OSError as error:
        log.warning("%s is missing: %s", path, error.strerror)


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """The run's TensorBoard writer; None without one, and on other ranks than the first."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            return logger.experiment
    return None


def epochs_done(trainer: Trainer) -> int:
    """The number of the epoch under way, counted from 1: the step of epoch scalars and images."""
    return trainer.current_epoch + 1
