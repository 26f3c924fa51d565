"""The run's speed: time in training steps and their batches, and no other time."""

import time

import pytest

from augcam.data.loader import AugmentedBatches
from augcam.training.callbacks import history
from augcam.training.callbacks.checkpoints import AtomicCheckpoints
from augcam.training.callbacks.gradcam import GradCamPanels
from augcam.training.module import Classifier
from tests.training.conftest import tiny_run


class Clock:
    """A clock that stands still but where the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def __getattr__(self, name):
        return getattr(time, name)


@pytest.fixture
def takes(monkeypatch):
    """A function: from now on a call of `owner.name` takes so many seconds of the run's clock."""
    clock = Clock()
    monkeypatch.setattr(history, "time", clock)

    def slow(owner, name: str, seconds: float) -> None:
        really = getattr(owner, name)

        def slowed(*arguments, **options):
            clock.now += seconds
            return really(*arguments, **options)

        monkeypatch.setattr(owner, name, slowed)

    return slow


@pytest.mark.parametrize("overrides", [[], ["trainer.val_check_interval=1"]], ids=["", "mid-epoch"])
def test_checkpoints_validation_and_pictures_are_no_training_time(tmp_path, takes, overrides):
    takes(Classifier, "training_step", 1)
    takes(AugmentedBatches, "__getitem__", 1)
    for owner, name in (
        (AtomicCheckpoints, "save_checkpoint"),
        (Classifier, "validation_step"),
        (GradCamPanels, "on_validation_end"),
    ):
        takes(owner, name, 1000)
    result = tiny_run(tmp_path / "run", *overrides)
    # Ten images a step; one second for the batch, one for the step.
    assert result.metrics["train_images_per_second"] == pytest.approx(5.0)
    assert result.metrics["wall_seconds"] > 3000
