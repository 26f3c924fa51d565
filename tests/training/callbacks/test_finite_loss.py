"""A loss that is no number ends the run at its step."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from augcam.training.callbacks.finite_loss import FiniteLoss, NonFiniteError

LIGHTNING: Any = None  # the module and the batch are not looked at


@pytest.fixture
def trainer() -> Any:
    return SimpleNamespace(
        global_step=0, num_training_batches=100, log_every_n_steps=50, world_size=1, callback_metrics={},
        sanity_checking=False, optimizers=[SimpleNamespace(param_groups=[{"lr": 0.25}])],
    )  # fmt: skip


def step(callback: FiniteLoss, trainer: Any, number: int, loss: float) -> None:
    trainer.global_step = number + 1
    outputs = {"loss": torch.tensor(loss)}
    callback.on_train_batch_end(trainer, LIGHTNING, outputs, LIGHTNING, number)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_on_a_cpu_the_step_itself_ends_the_run(trainer, loss):
    callback = FiniteLoss()
    step(callback, trainer, 0, 2.3)
    with pytest.raises(NonFiniteError, match=r"training loss .* step 2, learning rate 0\.25"):
        step(callback, trainer, 1, loss)


def test_several_ranks_look_at_the_end_of_the_epoch_and_name_the_first_bad_step(trainer):
    trainer.world_size = 2
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda bad, all: bad)
    callback = FiniteLoss()
    for number, loss in enumerate((1.0, math.nan, 1.0, math.nan)):
        step(callback, trainer, number, loss)
    with pytest.raises(NonFiniteError, match="step 2,"):
        callback.on_train_epoch_end(trainer, LIGHTNING)


def test_validation_and_test_end_the_run_too_but_not_the_check_before_it(trainer):
    callback = FiniteLoss()
    trainer.callback_metrics = {"val/loss": torch.tensor(math.nan), "test/loss": math.inf}
    trainer.sanity_checking = True
    callback.on_validation_end(trainer, LIGHTNING)
    trainer.sanity_checking = False
    with pytest.raises(NonFiniteError, match="val/loss is not finite"):
        callback.on_validation_end(trainer, LIGHTNING)
    with pytest.raises(NonFiniteError, match="test/loss is not finite"):
        callback.on_test_end(trainer, LIGHTNING)
