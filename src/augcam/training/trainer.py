"""Lightning's Trainer as a config asks for it: flags, loggers and callbacks."""

import logging
import os
import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from augcam.config.build import build, located
from augcam.config.schema import Config
from augcam.data.datamodule import ImageDataModule
from augcam.data.loader import uses_gpu
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder
from augcam.training.callbacks.checkpoints import AtomicCheckpoints, checkpoints
from augcam.training.callbacks.finite_loss import FiniteLoss
from augcam.training.callbacks.graceful_stop import GracefulStop
from augcam.training.callbacks.gradcam import GradCamPanels, epochs_between_panels
from augcam.training.callbacks.history import Recorder
from augcam.training.callbacks.predictions import TestPredictions
from augcam.training.callbacks.preview import AugmentationPreview, first_of_each_class
from augcam.training.callbacks.progress import ProgressDisplay
from augcam.training.hardware import auto_precision, keep_freed_memory
from augcam.viz.terminal import quiet_event_writer


def build_trainer(
    config: Config, folder: RunFolder, data: ImageDataModule, recorder: Recorder
) -> Trainer:
    """Lightning's Trainer with the run's flags, logger, checkpoints and callbacks."""
    flags = config.trainer.model_dump()
    if flags["precision"] == "auto":
        flags["precision"] = auto_precision(flags["accelerator"])
    show_bar = flags.pop("enable_progress_bar")
    if flags["benchmark"] is None:
        flags["benchmark"] = uses_gpu(flags["accelerator"]) and not flags["deterministic"]
    torch.backends.cuda.matmul.allow_tf32 = True  # as cuDNN's convolutions do by default
    if not uses_gpu(flags["accelerator"]):
        keep_freed_memory()
    if not config.data.holdout:
        flags["limit_val_batches"] = 0  # or Lightning warns of a loader without batches
    preview = first_of_each_class(data.train_set.labels, config.preview.samples)
    own = build_callbacks(config)
    has_bar = any(isinstance(callback, ProgressBar) for callback in own)
    callbacks: list[Callback] = [
        recorder,
        FiniteLoss(),
        *([ProgressDisplay(recorder)] if show_bar and not has_bar else []),
        AugmentationPreview(
            data.train_set.images[preview],
            data.train_set.labels[preview].tolist(),
            data.classes,
            data.pipeline,
            config.preview.draws,
            folder.figures / "augmentation_preview.png",
            data.mix,
        ),
        GradCamPanels(
            data.classes,
            data.mean,
            data.std,
            **config.explain.model_dump(exclude={"every_n_epochs"}),
            every_n_epochs=epochs_between_panels(
                config.explain.every_n_epochs, config.trainer.max_epochs, config.explain.images
            ),
            seed=config.seed,
            figures=folder.figures,
        ),
        *([] if config.trainer.fast_dev_run else [TestPredictions(folder.predictions_file)]),
        *own,
        GracefulStop(folder.last),
        *checkpoints(config, folder),
    ]
    try:
        trainer = Trainer(
            **flags,
            default_root_dir=folder.path,
            logger=build_loggers(config, folder),
            callbacks=callbacks,
            plugins=[AtomicCheckpoints(config, folder)],
            enable_progress_bar=show_bar and has_bar,  # or Lightning adds its own beside ours
            enable_model_summary=False,
            use_distributed_sampler=False,  # the data module shards by itself
        )
        interval = min(config.trainer.log_every_n_steps, _steps(trainer, data))
        trainer.log_every_n_steps = interval  # type: ignore[attr-defined]
        return trainer
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())[:300]}") from None


def _steps(trainer: Trainer, data: ImageDataModule) -> int:
    """Batches of an epoch, at least 1; Lightning knows them only once training has begun."""
    whole = len(data.train_set.labels) // (data.batch_size * trainer.world_size)
    limit = trainer.limit_train_batches
    return max(1, min(whole, limit) if isinstance(limit, int) else int(whole * limit))


def build_loggers(config: Config, folder: RunFolder) -> list[Logger]:
    """Lightning's loggers that the config names, told where the run is unless the config tells them.

    TensorBoard's events lie in the run folder itself; a CSV file in `csv/version_N`, another one for
    each time that the run goes on, because Lightning's begins anew.

    Raises:
        UserError: a logger cannot be built.
    """
    places: dict[type[Logger], dict[str, Any]] = {
        TensorBoardLogger: {
            "save_dir": folder.path, "name": "", "version": "", "default_hp_metric": False,
            "max_queue": 1000,
        },
        CSVLogger: {"save_dir": folder.path, "name": "csv"},
        WandbLogger: {"save_dir": folder.path, "name": config.name},
        # As in conf/logger/mlflow.yaml, whose value no run folder hands on.
        MLFlowLogger: {"save_dir": "outputs/mlruns", "run_name": config.name},
    }  # fmt: skip
    # MLflow 3 wants a database unless told that a folder will do.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    built = []
    for name, node in config.logger.items():
        kind = located(str(node.get("_target_")), f"logger.{name}")
        own = {key: value for key, value in places.get(kind, {}).items() if key not in node}
        built.append(build(node, Logger, f"logger.{name}", **own))  # type: ignore[type-abstract]
    return built


def build_callbacks(config: Config) -> list[Callback]:
    """The user's own callbacks, by their names in the config.

    Raises:
        UserError: one cannot be built.
    """
    return [build(node, Callback, f"callbacks.{name}") for name, node in config.callbacks.items()]


def quiet_libraries() -> None:
    """Leave out what a user can do nothing about, one message at a time; everything else is heard."""
    # Lightning's tips and lists of accelerators are at INFO; its warnings stay.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Lightning 2.6 calls a constructor that torch 2.15 deprecates.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # It advises workers for every loader; on a CPU they gain nothing (docs/performance.md).
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Frozen parts stay in evaluation mode: see augcam.models.parts.freeze.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Continuing a run in its own folder is what run=DIR is for.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    quiet_event_writer()
