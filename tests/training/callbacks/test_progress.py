"""Lines of progress where output is a file: at most one in so many seconds, with what is left."""

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from augcam.training.callbacks.progress import ProgressDisplay

LIGHTNING: Any = None


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as the test sets them."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def trainer() -> Any:
    """10 epochs of 20 batches; the run goes on after 40."""
    return SimpleNamespace(
        is_global_zero=True, accumulate_grad_batches=1, num_training_batches=20, max_epochs=10,
        max_steps=-1, current_epoch=2, callback_metrics={},
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=39)),
    )  # fmt: skip


def test_time_that_is_left_counts_what_this_process_did(clock, trainer, caplog):
    caplog.set_level(logging.INFO)
    recorder: Any = SimpleNamespace(images_per_second=512.4)
    display = ProgressDisplay(recorder, seconds=30)
    display.on_train_start(trainer, LIGHTNING)
    for number in range(2):
        clock[0] += 20
        trainer.fit_loop.epoch_loop.total_batch_idx += 1
        outputs = {"loss": torch.tensor(1.25)}
        display.on_train_batch_end(trainer, LIGHTNING, outputs, LIGHTNING, number)
    (line,) = caplog.messages  # none after the first 20 seconds
    # 20 s a batch, 158 of 200 batches are left: 3160 s.
    assert line == "  epoch 3/10  batch 2/20  loss 1.250  512 img/s  ETA 0:52:40"


def test_a_limit_of_steps_is_the_end_of_the_bar(trainer):
    display = ProgressDisplay(LIGHTNING)
    assert display._total(trainer) == 200
    trainer.max_steps, trainer.accumulate_grad_batches = 30, 2
    assert display._total(trainer) == 60
