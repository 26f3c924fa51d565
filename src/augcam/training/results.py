"""What a run says of itself: before it starts, in metrics.json, in figures and in a table."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich.table import Table
from rich.text import Text

from augcam.config.schema import Config, plain
from augcam.data.datamodule import ImageDataModule
from augcam.data.loader import EpochOrder
from augcam.errors import shown
from augcam.metrics import METRICS, Metric, metrics_for
from augcam.runs.run_folder import RunFolder
from augcam.training.callbacks.gradcam import epochs_between_panels
from augcam.training.callbacks.history import Recorder
from augcam.training.callbacks.pictures import log_image
from augcam.training.hardware import augcam_version, environment
from augcam.training.module import Classifier
from augcam.viz.figures import confusion_figure, curves_figure, figure_array
from augcam.viz.grid import save_png

log = logging.getLogger(__name__)


def summary(
    config: Config,
    classifier: Classifier,
    data: ImageDataModule,
    trainer: Trainer,
    recorder: Recorder,
    status: Literal["finished", "interrupted", "failed"],
) -> dict[str, Any]:
    """The content of metrics.json: its keys are a contract that other programs rely on."""
    return {
        "status": status,
        "name": config.name,
        "seed": config.seed,
        "epochs": len(recorder.history),
        "params": sum(p.numel() for p in classifier.network.parameters()),
        "aug": config.aug_name,
        "mix": config.mix.name,
        "data": config.data.label,
        "data_fingerprint": data.fingerprint,
        "model": config.model.label,
        "classes": list(classifier.classes),
        "normalize": {
            "mean": list(data.mean),
            "std": list(data.std),
        },
        "val": classifier.results.get("val"),
        "test": classifier.results.get("test"),
        "wall_seconds": round(recorder.wall_seconds, 1),
        "train_images_per_second": round(recorder.images_per_second, 1),
        "environment": environment()
        | {
            "device": device_name(trainer),
            "devices": trainer.world_size,
            "precision": str(trainer.precision),
            "channels_last": bool(config.model.channels_last),
            "num_workers": data.num_workers,
        },
        "config": plain(config),
        "history": recorder.history,
    }


def log_results(
    config: Config, classifier: Classifier, trainer: Trainer, metrics: Mapping[str, Any]
) -> None:
    """The final numbers and what the run was asked for, in every logger.

    metrics.json has them by now: a logger that fails costs a warning.
    """
    results = flat_results(metrics)
    for logger in trainer.loggers:
        try:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(hparams_columns(config), results)
            else:
                logger.log_hyperparams(flat_hparams(config))
                logger.log_metrics(results, metrics["epochs"])
            logger.save()
        except Exception as error:
            log.warning("%s lacks the final numbers: %s", type(logger).__name__, shown(error, 200))


def draw_figures(
    folder: RunFolder, classifier: Classifier, trainer: Trainer, metrics: Mapping[str, Any]
) -> None:
    """Curves and confusion matrices as PNG, the matrices in the loggers too.

    The numbers are written by now: a picture that cannot be drawn costs a warning and no more.
    """
    drawings: list[Callable[[], None]] = [
        partial(_draw_curves, folder, metrics["history"], quantity)
        for quantity in ("loss", "accuracy")
    ]
    drawings += [
        partial(_draw_confusion, folder, classifier, trainer, split, metrics["epochs"])
        for split in classifier.results
    ]
    for draw in drawings:
        try:
            draw()
        except Exception as error:
            log.warning("a figure is missing: %s", shown(error, 200))


def _draw_curves(folder: RunFolder, history: Sequence[Mapping[str, float]], quantity: str) -> None:
    curves = {
        split: [(int(row["epoch"]), row[f"{split}/{quantity}"]) for row in history
                if f"{split}/{quantity}" in row]
        for split in ("train", "val")
    }  # fmt: skip
    save_png(figure_array(curves_figure(curves, quantity)), folder.figures / f"{quantity}.png")


def _draw_confusion(
    folder: RunFolder, classifier: Classifier, trainer: Trainer, split: str, epoch: int
) -> None:
    confusion = np.asarray(classifier.results[split]["confusion"])
    picture = figure_array(confusion_figure(confusion, classifier.classes))
    save_png(picture, folder.figures / f"confusion_{split}.png")
    log_image(trainer, f"{split}/confusion", picture, epoch)
    for logger in trainer.loggers:
        logger.save()


def hparams_columns(config: Config) -> dict[str, float | str]:
    """A run's row in TensorBoard's HPARAMS table: few columns, the same in every run.

    TensorBoard drops a column that one run lacks, and puts these before the accuracies: more would
    push them off the page. What else was set is in the folder's name, its first column, and in the
    run's config.
    """
    return {
        "aug": config.aug_name,
        "lr": config.optim.lr,
        "model": config.model.label,
        "seed": config.seed,
    }


def flat_hparams(config: Config) -> dict[str, float | str]:
    """What a run was asked for, as one flat, fixed set of keys."""
    return {
        "aug": config.aug_name,
        "data": config.data.label,
        "model": config.model.label,
        "seed": config.seed,
        "epochs": config.trainer.max_epochs,
        "batch_size": config.data.batch_size,
        "optimizer": config.optim.target.rpartition(".")[2],
        "scheduler": config.scheduler.target.rpartition(".")[2],
        "lr": config.optim.lr,
        "weight_decay": config.optim.weight_decay,
        "label_smoothing": config.loss.label_smoothing,
        "l1": config.loss.l1,
        "jsd": config.loss.jsd,
        "dropout": getattr(config.model, "dropout", 0.0),
    }


def flat_results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What came out, as one flat, fixed set of keys; NaN where there was no such evaluation."""
    return {
        f"final/{split}_{metric.name}": (metrics[split] or {}).get(metric.name, float("nan"))
        for metric in METRICS
        for split in ("test", "val")
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
    order, side = epoch_order(data, trainer), data.train_set.images.shape[1]
    sizes = (
        f"{order.size:,} to train on in {len(order):,} batches of "
        f"{order.batch_size * order.world_size:,}, {len(data.val_set.labels):,} held out"
    )
    return "\n".join(
        [
            f"run      {folder}",
            f"augcam   {augcam_version()}",
            f"data     {config.data.label}: {sizes}, {len(data.classes)} classes, "
            f"{side}x{side} pixels",
            f"aug      {config.aug_name}: {', '.join(k for k, v in config.aug.items() if v) or 'none'}",
            f"model    {config.model.label}: {parameters:,} parameters",
            f"device   {device_name(trainer)} x {trainer.world_size}, precision {trainer.precision}, "
            f"channels_last {bool(config.model.channels_last)}, {data.num_workers} loader workers",
            *_panels(config),
        ]
    )


def epoch_order(data: ImageDataModule, trainer: Trainer) -> EpochOrder:
    """The batches of an epoch over all processes, before there is a loader."""
    return EpochOrder(
        len(data.train_set), data.batch_size, data.seed, world_size=trainer.world_size
    )


def _panels(config: Config) -> list[str]:
    explain, epochs = config.explain, config.trainer.max_epochs
    every = epochs_between_panels(explain.every_n_epochs, epochs, explain.images)
    if every == 1 or not explain.images:
        return []
    return [f"panels   {explain.images} images every {every} epochs, {epochs // every} times"]


def device_name(trainer: Trainer) -> str:
    """The device's name as people know it."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


def results_table(metrics: Mapping[str, Any]) -> Table:
    """Accuracy, overall and class by class, of validation and test."""
    splits = [split for split in ("val", "test") if metrics[split]]
    # Numbers chosen on the test set must be known by their column.
    on_test = metrics["config"]["data"]["holdout"] == "test"
    heads = ["val = test set" if on_test and split == "val" else split for split in splits]
    table = Table("", *heads, title=Text(f"{metrics['name']}, seed {metrics['seed']}: accuracy"))
    for column in table.columns[1:]:
        column.justify = "right"
    overall, *others = metrics_for(len(metrics["classes"]))
    table.add_row("all classes", *_cells(metrics, splits, overall), end_section=True)
    for name in metrics["classes"]:
        cells = [metrics[split]["accuracy_per_class"][name] for split in splits]
        table.add_row(name, *("-" if c is None or c != c else f"{c:.1%}" for c in cells))
    table.add_section()
    if on_test and "val" in splits:  # what those report who pick the best epoch
        tested = (row for row in metrics["history"] if "val/accuracy" in row)
        best = max(tested, key=lambda row: row["val/accuracy"])
        table.add_row(f"best epoch: {best['epoch']}", f"{best['val/accuracy']:.2%}")
    for metric in others:
        table.add_row(metric.title, *_cells(metrics, splits, metric))
    return table


def _cells(metrics: Mapping[str, Any], splits: Sequence[str], metric: Metric) -> list[str]:
    return [metric.text(metrics[split].get(metric.name)) for split in splits]
