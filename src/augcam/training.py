"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

import errno
import logging
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from rich import get_console
from rich.table import Table

from augcam import runs
from augcam.callbacks import (
    AugmentationPreview,
    GracefulStop,
    ProgressDisplay,
    Recorder,
    Stopped,
    first_of_each_class,
    tensorboard,
)
from augcam.config import FREE_TO_CHANGE, Config, validate
from augcam.data.augment import tail
from augcam.data.datamodule import ImageDataModule
from augcam.errors import UserError
from augcam.explain.callback import GradCamPanels
from augcam.explain.cam import GradCAM
from augcam.folder import RunFolder
from augcam.model.classifier import Classifier
from augcam.model.resnet import whitening_filters
from augcam.pictures import confusion_figure, curves_figure, figure_array, save_png
from augcam.sweeps import refuse_relaunch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its folder, the content of metrics.json, and the signal that stopped it."""

    folder: RunFolder
    metrics: Mapping[str, Any]
    signum: int | None = None

    @property
    def objective(self) -> float | None:
        """Validation accuracy (0..1) after the last epoch: what a sweeper maximises."""
        val = self.metrics.get("val")
        return val["accuracy"] if val else None


def train(config: Config, folder: RunFolder) -> RunResult:
    """Train as `config` says in `folder`, test once at the end, and write metrics.json.

    A folder with a last checkpoint is continued to the result that it would have had; one that has
    finished is left alone.

    Raises:
        UserError: the data, the augmentation, or what the Trainer was asked for is wrong.
    """
    earlier = folder.metrics()
    if earlier and earlier.get("status") == "finished":
        log.info("%s has finished: nothing to do", folder)
        return RunResult(folder, earlier)

    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = runs.build_data(config)
    data.prepare_data()
    data.setup("fit")
    classifier = runs.build_classifier(config, data.classes)
    if config.model.whiten:
        some = data.train_set.images[:: max(1, len(data.train_set) // 1000)]
        images = tail(torch.from_numpy(some.copy()), data.mean, data.std)
        classifier.network.get_parameter("conv1.0.weight").data.copy_(whitening_filters(images))
    if config.explain.images and not config.model.compile:
        # A layer that is not there is told now, and not after the first epoch.
        with GradCAM(classifier.network, (config.explain.layer,), config.explain.method) as cam:
            cam(torch.zeros(1, 3, *data.train_set.images.shape[1:3]))
    recorder = Recorder(config.trainer.log_every_n_steps)
    trainer = build_trainer(config, folder, data, recorder)
    if trainer.is_global_zero:
        log.info(described(config, folder, data, classifier, trainer))
    if config.data.holdout == "test" and trainer.is_global_zero:
        log.warning(
            "data.holdout=test: every epoch is validated on the test set, and best.ckpt chosen by it; "
            "such numbers compare only with others made so"
        )

    signum = None
    resume_from = resume_point(folder, config)
    try:
        trainer.fit(classifier, data, ckpt_path=resume_from, weights_only=True)
        trainer.test(classifier, data, verbose=False)
    except Stopped as stop:
        signum = stop.signum
    except SIGTERMException:  # before training began
        signum = signal.SIGTERM
    except SystemExit:  # Lightning's answer to a second Ctrl-C
        signum = signal.SIGINT
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None

    metrics = summary(config, folder, classifier, trainer, recorder, interrupted=signum is not None)
    if trainer.is_global_zero and not config.trainer.fast_dev_run:
        if signum is None:
            draw_figures(folder, classifier, trainer, recorder, metrics)
        folder.write_metrics(metrics)  # last: a run that says "finished" has all its files
    return RunResult(folder, metrics, signum)


def resume_point(folder: RunFolder, config: Config) -> Path | None:
    """The last checkpoint, where the run has one.

    Raises:
        UserError: the checkpoint cannot be read, or Lightning cannot go on from it.
    """
    if not folder.last.is_file():
        return None
    loops = runs.read_checkpoint(folder.last)["loops"]["fit_loop"]
    if config.trainer.max_steps != -1 and loops["epoch_loop.batch_progress"]["is_last_batch"]:
        # Lightning 2.6 then skips batches of the next epoch.
        raise UserError(
            f"run={folder}: stopped between two epochs, and with trainer.max_steps a run cannot go on "
            "from there; start it anew, with trainer.max_epochs if it may be stopped again"
        )
    log.info("going on from %s", folder.last)
    return folder.last


def plain(config: Config) -> dict[str, Any]:
    """The config as JSON has it: what metrics.json and checkpoints keep, to compare with."""
    return config.model_dump(mode="json", by_alias=True)


def check_continuation(folder: RunFolder, config: Config) -> None:
    """Refuse to go on with a run under a config that would make it another run.

    Raises:
        UserError: a line for every key that differs and may not.
    """
    if not folder.last.is_file() and not folder.metrics_file.is_file():
        return
    # Hydra may have written the new config into the folder by now: what counts is the run's own record.
    recorded = (folder.metrics() or {}).get("config") or runs.read_checkpoint(folder.last)["config"]
    # Validated: a key that has come since then has its default, which is how that run was made.
    before, now = runs.flat(plain(validate(recorded))), runs.flat(plain(config))
    changed = [key for key in now | before if now.get(key) != before.get(key)]
    if problems := [key for key in changed if not key.startswith(FREE_TO_CHANGE)]:
        folder.save_config(OmegaConf.create(recorded))
        raise UserError(
            "\n".join(
                f"{key}={now.get(key)}: this run has {before.get(key)}, and going on with another value "
                "would make it another run; start a new one"
                for key in problems
            )
        )


def build_trainer(
    config: Config, folder: RunFolder, data: ImageDataModule, recorder: Recorder
) -> Trainer:
    """Lightning's Trainer with the run's flags, logger, checkpoints and callbacks."""
    flags = config.trainer.model_dump()
    if flags["precision"] == "auto":
        flags["precision"] = runs.auto_precision(flags["accelerator"])
    show_bar = flags.pop("enable_progress_bar")
    if flags["benchmark"] is None:
        flags["benchmark"] = runs.uses_gpu(flags["accelerator"]) and not flags["deterministic"]
    torch.backends.cuda.matmul.allow_tf32 = True  # as cuDNN's convolutions do by default
    if not runs.uses_gpu(flags["accelerator"]):
        runs.keep_freed_memory()
    if not config.data.holdout:
        flags["limit_val_batches"] = 0  # or Lightning warns of a loader without batches
    preview = first_of_each_class(data.train_set.labels, config.preview.samples)
    callbacks: list[Callback] = [
        recorder,
        *([ProgressDisplay(recorder)] if show_bar else []),
        AugmentationPreview(
            data.train_set.images[preview],
            [data.classes[int(label)] for label in data.train_set.labels[preview]],
            data.pipeline,
            config.preview.draws,
            folder.figures / "augmentation_preview.png",
        ),
        GradCamPanels(
            data.classes,
            data.mean,
            data.std,
            **config.explain.model_dump(),
            seed=config.seed,
            figures=folder.figures,
        ),
        *([] if config.trainer.fast_dev_run else [TestPredictions(folder.predictions_file)]),
        GracefulStop(folder.last),
        *checkpoints(config, folder),
    ]
    try:
        return Trainer(
            **flags,
            default_root_dir=folder.path,
            logger=TensorBoardLogger(
                folder.path, name="", version="", default_hp_metric=False, max_queue=1000
            ),
            callbacks=callbacks,
            plugins=[AtomicCheckpoints(config)],
            enable_progress_bar=False,  # ours is a callback
            enable_model_summary=False,
            use_distributed_sampler=False,  # the data module shards by itself
        )
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())[:300]}") from None


def checkpoints(config: Config, folder: RunFolder) -> list[Callback]:
    """`last.ckpt` after every epoch, `best.ckpt` at the highest validation accuracy."""
    always: dict[str, Any] = {
        "dirpath": folder.checkpoints,
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    kept: list[Callback] = [Checkpoint(filename="last", **always)]
    if config.data.holdout and config.trainer.limit_val_batches != 0:
        best = Checkpoint(filename="best", monitor="val/accuracy", mode="max", **always)
        kept.append(best)
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


class TestPredictions(Callback):
    """Keeps what the network said of each test image, so that runs can be compared image by image.

    The file has `label` and `predicted`, uint16 (N,), and `confidence`, float16 (N,), in the test
    set's order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: list[torch.Tensor] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _images, labels, index = batch
        confidence, predicted = outputs.softmax(dim=1).max(dim=1)
        columns = [part.cpu().double() for part in (index, labels, predicted, confidence)]
        self._seen.append(torch.stack(columns, dim=1))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        rows = torch.cat(self._seen)
        self._seen.clear()
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, rows)
            rows = torch.cat(gathered)
        if not trainer.is_global_zero:
            return
        rows = rows[rows[:, 0].argsort()]
        # Written under another name first: a reader never sees half of it.
        beside = self.path.with_name(f".{self.path.name}")
        with beside.open("wb") as file:
            np.savez_compressed(
                file,
                label=rows[:, 1].numpy().astype(np.uint16),
                predicted=rows[:, 2].numpy().astype(np.uint16),
                confidence=rows[:, 3].numpy().astype(np.float16),
            )
        beside.replace(self.path)


def summary(
    config: Config,
    folder: RunFolder,
    classifier: Classifier,
    trainer: Trainer,
    recorder: Recorder,
    interrupted: bool,
) -> dict[str, Any]:
    """The content of metrics.json: its keys are a contract that other programs rely on."""
    return {
        "status": "interrupted" if interrupted else "finished",
        "name": config.name,
        "seed": config.seed,
        "epochs": len(recorder.history),
        "params": sum(p.numel() for p in classifier.network.parameters()),
        "aug": config.aug_name,
        "data": config.data.name,
        "model": config.model.name,
        "classes": list(classifier.classes),
        "val": classifier.results.get("val"),
        "test": classifier.results.get("test"),
        "wall_seconds": round(recorder.wall_seconds, 1),
        "train_images_per_second": round(recorder.images_per_second, 1),
        "environment": runs.environment()
        | {
            "device": device_name(trainer),
            "devices": trainer.world_size,
            "precision": str(trainer.precision),
            "channels_last": bool(config.model.channels_last),
            "num_workers": trainer.datamodule.num_workers,  # type: ignore[attr-defined]
        },
        "config": plain(config),
        "history": recorder.history,
    }


def draw_figures(
    folder: RunFolder,
    classifier: Classifier,
    trainer: Trainer,
    recorder: Recorder,
    metrics: Mapping[str, Any],
) -> None:
    """Curves and confusion matrices as PNG, the matrices and the final numbers in TensorBoard too."""
    for quantity in ("loss", "accuracy"):
        curves = {
            split: [(int(r["epoch"]), r[f"{split}/{quantity}"]) for r in recorder.history
                    if f"{split}/{quantity}" in r]
            for split in ("train", "val")
        }  # fmt: skip
        save_png(figure_array(curves_figure(curves, quantity)), folder.figures / f"{quantity}.png")
    writer = tensorboard(trainer)
    for split, result in classifier.results.items():
        confusion = np.asarray(result["confusion"])
        picture = figure_array(confusion_figure(confusion, classifier.classes))
        save_png(picture, folder.figures / f"confusion_{split}.png")
        if writer:
            writer.add_image(f"{split}/confusion", picture, metrics["epochs"], dataformats="HWC")
    if isinstance(trainer.logger, TensorBoardLogger):
        # The same flat keys in every run, or TensorBoard's HPARAMS page drops the column.
        trainer.logger.log_hyperparams(flat_hparams(folder), flat_results(metrics))
        trainer.logger.save()
    if writer:
        writer.flush()


def flat_hparams(folder: RunFolder) -> dict[str, float | str]:
    """What a run was asked for, as one flat, fixed set of keys."""
    config = folder.config()
    return {
        "aug": config.aug_name,
        "data": config.data.name,
        "model": config.model.name,
        "seed": config.seed,
        "epochs": config.trainer.max_epochs,
        "batch_size": config.data.batch_size,
        "optimizer": config.optim.target.rpartition(".")[2],
        "scheduler": config.scheduler.target.rpartition(".")[2],
        "lr": config.optim.lr,
        "weight_decay": config.optim.weight_decay,
        "label_smoothing": config.loss.label_smoothing,
        "l1": config.loss.l1,
        "dropout": config.model.dropout,
    }


def flat_results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What came out, as one flat, fixed set of keys; NaN where there was no such evaluation."""
    return {
        f"final/{split}_{name}": metrics[split][name] if metrics[split] else float("nan")
        for split in ("val", "test")
        for name in ("accuracy", "loss", "top5", "ece")
    }


def described(
    config: Config,
    folder: RunFolder,
    data: ImageDataModule,
    classifier: Classifier,
    trainer: Trainer,
) -> str:
    """What is about to run, and what every `auto` came to."""
    parameters = sum(p.numel() for p in classifier.network.parameters())
    sizes = f"{len(data.train_set.labels):,} to train on, {len(data.val_set.labels):,} held out"
    return "\n".join(
        [
            f"run      {folder}",
            f"data     {config.data.name}: {sizes}, {len(data.classes)} classes",
            f"aug      {config.aug_name}: {', '.join(k for k, v in config.aug.items() if v) or 'none'}",
            f"model    {config.model.name}: {parameters:,} parameters",
            f"device   {device_name(trainer)} x {trainer.world_size}, precision {trainer.precision}, "
            f"channels_last {bool(config.model.channels_last)}, {data.num_workers} loader workers",
        ]
    )


def device_name(trainer: Trainer) -> str:
    """The device's name as people know it."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


def quiet_libraries() -> None:
    """Leave out what a user can do nothing about, one message at a time; everything else is heard."""
    # Lightning's tips and lists of accelerators are at INFO; its warnings stay.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # Lightning 2.6 calls a constructor that torch 2.15 deprecates.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # It advises workers for every loader; on a CPU they gain nothing (docs/performance.md).
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Continuing a run in its own folder is what run=DIR is for.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def results_table(metrics: Mapping[str, Any]) -> Table:
    """Accuracy, overall and class by class, of validation and test."""
    splits = [split for split in ("val", "test") if metrics[split]]
    # Numbers chosen on the test set must be known by their column.
    on_test = metrics["config"]["data"]["holdout"] == "test"
    heads = ["val = test set" if on_test and split == "val" else split for split in splits]
    table = Table("", *heads, title=f"{metrics['name']}, seed {metrics['seed']}: accuracy")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row(
        "all classes", *(f"{metrics[s]['accuracy']:.2%}" for s in splits), end_section=True
    )
    for name in metrics["classes"]:
        cells = [metrics[split]["accuracy_per_class"][name] for split in splits]
        table.add_row(name, *("-" if c is None or c != c else f"{c:.1%}" for c in cells))
    table.add_section()
    if on_test and "val" in splits:  # what those report who pick the best epoch
        tested = (row for row in metrics["history"] if "val/accuracy" in row)
        best = max(tested, key=lambda row: row["val/accuracy"])
        table.add_row(f"best epoch: {best['epoch']}", f"{best['val/accuracy']:.2%}")
    for key in ("top5", "loss", "ece"):
        cells = [metrics[split][key] for split in splits]
        form = "{:.2%}" if key == "top5" else "{:.4f}"
        table.add_row(key, *("-" if c is None else form.format(c) for c in cells))
    return table


def train_in_hydra_folder(tree: DictConfig, config: Config) -> float | None:
    """`train` in the folder that Hydra made, with what a person at the terminal wants to read.

    Returns:
        The validation accuracy, for sweepers. Exits with 130 or 143 where a signal stopped the run.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    folder = RunFolder(hydra.runtime.output_dir)
    began = time.perf_counter()
    strategy, devices = config.trainer.strategy, config.trainer.devices
    if hydra.mode == RunMode.MULTIRUN:
        refuse_relaunch(strategy)  # where the strategy varies, the sweep's door could not
        if strategy == "auto" and devices != 1 and torch.cuda.device_count() > 1:
            raise UserError(
                f"trainer.devices={devices}: a sweep's job uses one device, trainer.devices=1, or "
                "several with trainer.strategy=ddp_fork"
            )
    had_finished = folder.state() == "finished"
    # The other ranks of a run belong to the process that holds the folder.
    with folder.locked() if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext():
        check_continuation(folder, config)
        folder.save_config(tree)
        result = train(config, folder)
    if had_finished or (torch.distributed.is_initialized() and torch.distributed.get_rank() > 0):
        return result.objective
    if result.signum is not None:
        again = f"run={shlex.quote(str(folder))}"
        if hydra.mode == RunMode.MULTIRUN:
            again = f"-m with the same words and sweep.dir={shlex.quote(config.sweep.dir)}"
        log.info("stopped, and all is kept. To go on: python train.py %s", again)
        sys.exit(128 + result.signum)
    if config.trainer.fast_dev_run:
        log.info("fast_dev_run: every part ran; no checkpoint and no metrics.json are kept")
        return result.objective
    get_console().print(results_table(result.metrics))
    log.info(
        "%s in %.0f s, %.0f training images/s\ntensorboard --logdir %s",
        result.metrics["status"], time.perf_counter() - began,
        result.metrics["train_images_per_second"], folder,
    )  # fmt: skip
    return result.objective
