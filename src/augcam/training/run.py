"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

import errno
import logging
import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from augcam.atomic import remove_leftovers
from augcam.config.model import CustomConfig, ResNetConfig
from augcam.config.schema import Config
from augcam.data.datamodule import ImageDataModule
from augcam.data.normalize import normalize
from augcam.errors import RunError, UserError
from augcam.explain.cam import GradCAM
from augcam.models.resnet import whitening_filters
from augcam.models.stem import resolved_stem
from augcam.runs.build import build_data, image_size, start_from_weights
from augcam.runs.run_folder import RunFolder
from augcam.training.build import build_classifier
from augcam.training.callbacks.finite_loss import NonFiniteError
from augcam.training.callbacks.graceful_stop import Stopped
from augcam.training.callbacks.history import Recorder
from augcam.training.module import Classifier
from augcam.training.results import (
    described,
    draw_figures,
    epoch_order,
    log_results,
    summary,
)
from augcam.training.resume import resume_point
from augcam.training.trainer import build_trainer, quiet_libraries

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
        return val.get("accuracy") if isinstance(val, Mapping) else None


def train(config: Config, folder: RunFolder) -> RunResult:
    """Train as `config` says in `folder`, test once at the end, and write metrics.json.

    A folder with a last checkpoint is continued to the result that it would have had; one that has
    finished is left alone.

    Raises:
        UserError: the data, the augmentation, or what the Trainer was asked for is wrong.
        RunError: the loss is not finite any more, the disk does not take what is written, or something
            is wrong that only showed once there was a checkpoint. What was saved before stays, and
            metrics.json says `failed` where it can be written.
    """
    earlier = folder.metrics()
    if earlier and earlier.get("status") == "finished":
        tidy(folder)
        log.info("%s has finished: nothing to do", folder)
        return RunResult(folder, earlier)

    resume_from = resume_point(folder, config)
    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = read_data(config)
    classifier = build_classifier(config, data.classes)
    if resume_from is None:
        start_from_weights(classifier.network, config, len(data.classes))
    whiten_first_layer(config, classifier, data)
    check_target_layer(config, classifier, data)
    recorder = Recorder()
    trainer = build_trainer(config, folder, data, recorder)
    announce(config, folder, data, classifier, trainer)
    writes = trainer.is_global_zero and not config.trainer.fast_dev_run
    if writes:
        remove_leftovers(folder.path)
        folder.failure_file.unlink(missing_ok=True)
    try:
        with (
            disk_faults_in_words(folder, config),
            nothing_refused_late(folder, config, resume_from),
        ):
            if writes and earlier:  # killed from here on, the run has not ended as it did before
                going_on = {key: value for key, value in earlier.items() if key != "failure"}
                folder.write_metrics(going_on | {"status": "running"})
            signum = fit_and_test(trainer, classifier, data, folder, resume_from)
            status: Literal["interrupted", "finished"] = "interrupted" if signum else "finished"
            metrics = summary(config, classifier, data, trainer, recorder, status)
            if writes:
                folder.write_metrics(metrics)  # the numbers first: pictures can be made again
    except RunError as error:
        if writes and (recorder.history or not earlier):  # else nothing was added to what is there
            failed = summary(config, classifier, data, trainer, recorder, "failed")
            failed["failure"] = str(error)
            with suppress(OSError):
                folder.write_metrics(failed)
        raise
    if writes and signum is None:
        tidy(folder)
        log_results(config, classifier, trainer, metrics)
        draw_figures(folder, classifier, trainer, metrics)
    return RunResult(folder, metrics, signum)


def tidy(folder: RunFolder) -> None:
    """Remove what only a run that is stopped again would need."""
    folder.previous.unlink(missing_ok=True)
    remove_leftovers(folder.path)


def read_data(config: Config) -> ImageDataModule:
    """The run's images, read and split.

    Those of the test are looked at when training has ended. But they are read now, for what cannot be
    read is to stop a run before it is trained.

    Raises:
        UserError: an image cannot be read, or is of another size than the network is built for.
    """
    data = build_data(config)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    check_size(config, data.train_set.images.shape[1])
    return data


def check_size(config: Config, side: int) -> None:
    """Refuse images of another size than the network is built for, where that makes it another one.

    Raises:
        UserError: with the size that it should have been told.
    """
    expected, model = image_size(config), config.model
    same = isinstance(model, CustomConfig) or (
        isinstance(model, ResNetConfig)
        and resolved_stem(model.stem, side) == resolved_stem(model.stem, expected)
    )
    if side != expected and not same:
        raise UserError(
            f"data: the images have {side} pixels a side, and the network is built for {expected}; "
            f"give data.image_size={side}"
        )


def whiten_first_layer(config: Config, classifier: Classifier, data: ImageDataModule) -> None:
    """Where the model has a whitened first layer: its filters from the training images.

    A network that begins with weights from a file has them there.
    """
    model = config.model
    if not (isinstance(model, ResNetConfig) and model.whiten) or model.weights is not None:
        return
    # Of a million pixels: all would fill the memory.
    pixels = math.prod(data.train_set.images.shape[:3])
    some = data.train_set.images[:: max(1, pixels // 1_024_000)]
    images = normalize(torch.from_numpy(some.copy()), data.mean, data.std)
    classifier.network.get_parameter("conv1.0.weight").data.copy_(whitening_filters(images))


def check_target_layer(config: Config, classifier: Classifier, data: ImageDataModule) -> None:
    """Explain one blank image: a layer that is not there is known now, not after the first epoch."""
    if config.explain.images and not config.model.compile:
        with GradCAM(classifier.network, (config.explain.layer,), config.explain.method) as cam:
            cam(torch.zeros(1, 3, *data.train_set.images.shape[1:3]))


def announce(
    config: Config,
    folder: RunFolder,
    data: ImageDataModule,
    classifier: Classifier,
    trainer: Trainer,
) -> None:
    """What is about to run, in the log."""
    if not trainer.is_global_zero:
        return
    log.info(described(config, folder, data, classifier, trainer))
    order = epoch_order(data, trainer)
    if order.left_out > order.size / 10:
        log.warning(
            "data.batch_size=%d: %d of %d training images are left out of every epoch, since they fill "
            "no batch; a smaller data.batch_size leaves out fewer",
            data.batch_size, order.left_out, order.size,
        )  # fmt: skip
    if config.data.holdout == "test":
        log.warning(
            "data.holdout=test: every epoch is validated on the test set, and best.ckpt chosen by it; "
            "such numbers compare only with others made so"
        )


def fit_and_test(
    trainer: Trainer,
    classifier: Classifier,
    data: ImageDataModule,
    folder: RunFolder,
    resume_from: Path | None,
) -> int | None:
    """Train from where the run is to its end, and test; the signal that stopped it, or None.

    Raises:
        UserError: Lightning refuses what it was asked for.
        NonFiniteError: with the checkpoint that remains.
    """
    try:
        trainer.fit(classifier, data, ckpt_path=resume_from, weights_only=True)
        take_averaged_weights(trainer, classifier)
        trainer.test(classifier, data, verbose=False)
    except Stopped as stop:
        return stop.signum
    except SIGTERMException:  # before training began
        return signal.SIGTERM
    except SystemExit:  # Lightning's answer to a second Ctrl-C
        return signal.SIGINT
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from None
    except NonFiniteError as error:
        kept = f"the last good checkpoint is {folder.last}" if folder.last.is_file() else (
            "no epoch had ended: there is no checkpoint"
        )  # fmt: skip
        raise RunError(
            f"{error}; {kept}\na lower optim.lr, in a new run, is the usual remedy"
        ) from None
    return None


def take_averaged_weights(trainer: Trainer, classifier: Classifier) -> None:
    """Give the network the average of its weights, where a callback keeps one: that is what is tested.

    The callback does so itself when training ends. But a run that was stopped in its test has nothing
    left to train, and Lightning then leaves that hook out. To copy the average twice does no harm.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            callback.on_train_end(trainer, classifier)


@contextmanager
def nothing_refused_late(
    folder: RunFolder, config: Config, resume_from: Path | None
) -> Iterator[None]:
    """Inside, a new run that has a checkpoint is not refused any more, as if it had not begun: it fails.

    Raises:
        RunError: in place of the UserError, with how to go on.
    """
    try:
        yield
    except UserError as error:
        if resume_from is not None or not folder.last.is_file():
            raise
        raise RunError(f"{error}\nthen go on: {folder.command_to_go_on(config)}") from error


_REMEDIES = {
    errno.ENOSPC: "free space", errno.EDQUOT: "free space", errno.EIO: "see to the disk",
    errno.EACCES: "make it writable", errno.EPERM: "make it writable", errno.EROFS: "make it writable",
}  # fmt: skip


@contextmanager
def disk_faults_in_words(folder: RunFolder, config: Config) -> Iterator[None]:
    """Inside, a disk that is full, failing or closed to us ends the run with what to do next.

    Raises:
        RunError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise RunError(
            f"{error.filename or folder}: {error.strerror}\n{_REMEDIES[error.errno]}, "
            f"then go on: {folder.command_to_go_on(config)}"
        ) from error
