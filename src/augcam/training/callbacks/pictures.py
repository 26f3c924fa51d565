"""What a run shows and keeps while it goes on: scalars, progress, previews, and a clean stop."""

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """The run's TensorBoard writer; None on other ranks than the first and under fast_dev_run."""
    logger = trainer.logger
    if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
        return logger.experiment
    return None


def epochs_done(trainer: Trainer) -> int:
    """The number of the epoch under way, counted from 1: the step of epoch scalars and images."""
    return trainer.current_epoch + 1
