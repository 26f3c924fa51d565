"""A run that takes a second: 20 training images of shapes, a network of eight channels."""

from pathlib import Path
from typing import Any

import pytest
import torch

from augcam.config.schema import validate
from augcam.runs.run_folder import RunFolder
from augcam.training.callbacks.history import Recorder
from augcam.training.run import RunResult, train
from tests.conftest import compose

TINY = [
    "data=shapes", "data.train_size=40", "data.test_size=20", "data.holdout=20", "data.batch_size=10",
    "model=resnet10", "model.width=8", "explain.images=0", "preview.samples=0",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=3",
    "trainer.enable_progress_bar=false",
]  # fmt: skip


def tiny_run(path: Path, *overrides: str) -> RunResult:
    """What `python train.py` does in a folder, in this process, without Hydra's part."""
    config = validate(compose([*TINY, *overrides]))
    folder = RunFolder(path)
    folder.save_config(config)
    return train(config, folder)


class Died(BaseException):
    """Stands for a kill: no handler of ours or Lightning's may tidy up after it."""


@pytest.fixture
def died_in_epoch(monkeypatch):
    """A function: a run in `path` that dies when epoch `number` (from 1) begins."""

    def die(path: Path, number: int, *overrides: str) -> RunFolder:
        really = Recorder.on_train_epoch_start

        def start(self: Any, trainer: Any, module: Any) -> None:
            if trainer.current_epoch + 1 == number:
                raise Died
            really(self, trainer, module)

        with monkeypatch.context() as patched:
            patched.setattr(Recorder, "on_train_epoch_start", start)
            with pytest.raises(Died):
                tiny_run(path, *overrides)
        return RunFolder(path)

    return die


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint."""
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
