"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from augcam.config.model import ResNetConfig
from augcam.config.schema import Config
from augcam.data.normalize import normalize
from augcam.errors import UserError
from augcam.explain.cam import GradCAM
from augcam.models.resnet import whitening_filters
from augcam.runs.build import build_data, start_from_weights
from augcam.runs.run_folder import RunFolder
from augcam.training.build import build_classifier
from augcam.training.callbacks.graceful_stop import Stopped
from augcam.training.callbacks.history import Recorder
from augcam.training.results import described, draw_figures, summary
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
    data = build_data(config)
    data.prepare_data()
    data.setup("fit")
    classifier = build_classifier(config, data.classes)
    if not folder.last.is_file():
        start_from_weights(classifier.network, config, len(data.classes))
    if isinstance(config.model, ResNetConfig) and config.model.whiten:
        pixels = data.train_set.images[
            ..., 0
        ].size  # of a million of them: all would fill the memory
        some = data.train_set.images[:: max(1, pixels // 1_024_000)]
        images = normalize(torch.from_numpy(some.copy()), data.mean, data.std)
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
