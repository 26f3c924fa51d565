"""Where a run stops that was asked to. tests/cli/test_train.py has it whole, with what comes after."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from augcam.training.callbacks.graceful_stop import GracefulStop, Stopped

LIGHTNING: Any = None


class Saved:
    """In place of a trainer: notes the batches after which a checkpoint is saved."""

    accumulate_grad_batches, num_training_batches, world_size, current_epoch = 2, 6, 1, 0

    def __init__(self) -> None:
        self.files: list[Path] = []

    def save_checkpoint(self, path: Path) -> None:
        self.files.append(path)


@pytest.fixture
def stop(tmp_path) -> Any:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    callback = GracefulStop(tmp_path / "last.ckpt")
    callback.on_train_start(LIGHTNING, LIGHTNING)
    yield callback
    callback.on_test_end(LIGHTNING, LIGHTNING)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def batch_ends(callback: GracefulStop, trainer: Any, number: int) -> None:
    callback.on_train_batch_end(trainer, LIGHTNING, LIGHTNING, LIGHTNING, number)


def test_it_stops_between_two_optimizer_steps_with_all_saved(stop):
    trainer = Saved()
    batch_ends(stop, trainer, 1)  # nobody has asked
    os.kill(os.getpid(), signal.SIGTERM)
    batch_ends(stop, trainer, 2)  # gradients of half a step
    assert trainer.files == []
    with pytest.raises(Stopped) as stopped:
        batch_ends(stop, trainer, 3)
    assert stopped.value.signum == signal.SIGTERM
    assert trainer.files == [stop.checkpoint]


def test_after_the_last_batch_the_epoch_is_made_whole(stop):
    trainer: Any = Saved()
    os.kill(os.getpid(), signal.SIGINT)
    batch_ends(stop, trainer, 5)
    stop.on_train_epoch_start(trainer, LIGHTNING)  # of the first: nothing is saved yet
    trainer.current_epoch = 1
    with pytest.raises(Stopped):
        stop.on_train_epoch_start(trainer, LIGHTNING)
    assert trainer.files == []  # the checkpoint of the epoch is complete


def test_a_second_ctrl_c_stops_at_once(stop):
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("asked", "step", "stops"), [(True, 10, True), (True, 11, False)])
def test_several_ranks_agree_at_every_tenth_step(stop, asked, step, stops):
    trainer: Any = Saved()
    trainer.world_size, trainer.accumulate_grad_batches, trainer.num_training_batches = 2, 1, 100
    # Another rank was asked, this one was not.
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda mine, all: asked)
    if not stops:
        batch_ends(stop, trainer, step - 1)
        return
    with pytest.raises(Stopped):
        batch_ends(stop, trainer, step - 1)


def test_the_test_of_one_process_stops_after_a_batch(stop):
    trainer: Any = Saved()
    stop.on_test_batch_end(trainer, LIGHTNING, LIGHTNING, LIGHTNING, 0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        stop.on_test_batch_end(trainer, LIGHTNING, LIGHTNING, LIGHTNING, 1)
