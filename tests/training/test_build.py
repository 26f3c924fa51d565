"""From a config to optimizer and schedule: the head's own rate; what breaks off is refused."""

import math

import pytest
import torch
from torch import nn

from augcam.config.schema import plain, validate
from augcam.errors import UserError
from augcam.training.build import build_classifier
from tests.conftest import compose
from tests.training.conftest import tiny_run

TINY = ("model=resnet10", "model.width=8", "optim.lr=0.1", "optim.head_lr=0.4")


@pytest.mark.parametrize(
    ("scheduler", "trunk", "head"),
    [
        # (at the first step, at the peak of OneCycle), for the trunk and for the head
        ("onecycle", [0.1 / 25, 0.1], [0.4 / 25, 0.4]),
        ("cosine", [0.1, None], [0.4, None]),
        ("constant", [0.1, 0.1], [0.4, 0.4]),
    ],
)
def test_the_head_learns_at_its_own_rate_under_every_schedule(scheduler, trunk, head):
    overrides = [*TINY, f"scheduler={scheduler}"]
    overrides += ["scheduler.pct_start=0.5"] if scheduler == "onecycle" else []
    config = validate(compose(overrides))
    classifier = build_classifier(config, "abcdefghij")
    groups = [{"params": list(classifier.network.parameters())}]
    optimizer = classifier.make_optimizer(groups)
    schedule = classifier.make_scheduler(optimizer, 101)["scheduler"]
    own = {id(p) for p in classifier.network.get_submodule("fc").parameters()}
    rates: dict[str, list[float]] = {"trunk": [], "head": []}
    for step in range(51):
        for group in optimizer.param_groups:
            (part,) = {"head" if id(p) in own else "trunk" for p in group["params"]}
            if step in (0, 50):
                rates[part].append(group["lr"])
        optimizer.step()
        schedule.step()
    for got, wanted in ((rates["trunk"], trunk), (rates["head"], head)):
        assert got[0] == pytest.approx(wanted[0])
        if wanted[1] is not None:
            assert got[1] == pytest.approx(wanted[1], rel=1e-2)
    assert rates["head"][1] == pytest.approx(4 * rates["trunk"][1])


def test_a_rate_that_is_a_whole_number_is_a_rate_as_well():
    whole = ["optim.lr=1", "optim.head_lr=4", "scheduler=onecycle"]
    classifier = build_classifier(validate(compose([*TINY[:2], *whole])), "abcdefghij")
    optimizer = classifier.make_optimizer([{"params": list(classifier.network.parameters())}])
    classifier.make_scheduler(optimizer, 100)
    assert [group["max_lr"] for group in optimizer.param_groups] == [1, 4]


def test_without_it_the_optimizer_is_as_it_was():
    config = validate(compose([*TINY[:-1]]))
    classifier = build_classifier(config, "abcdefghij")
    optimizer = classifier.make_optimizer([{"params": [nn.Parameter(nn.Linear(1, 1).weight.data)]}])
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("overrides", "attribute", "value"),
    [
        (["loss.label_smoothing=0.3"], "label_smoothing", 0.3),
        (["loss.l1=0.01"], "l1", 0.01),
        (["loss.jsd=12", "aug=augmix"], "jsd", 12),
        (["optim.weight_decay=0.003"], "weight_decay", 0.003),
        (["optim.decay_norm_and_bias=true"], "decay_norm_and_bias", True),
    ],
)
def test_the_loss_and_the_decay_are_those_of_the_config(overrides, attribute, value):
    config = validate(compose([*TINY, *overrides]))
    assert getattr(build_classifier(config, "abcdefghij"), attribute) == value


def test_an_optimizer_without_a_decay_is_given_none():
    """Rprop has no `weight_decay`; nor is one recorded, with which the run could not be opened again."""
    rprop = ["optim=adamw", "optim._target_=torch.optim.Rprop", "~optim.weight_decay"]
    config = validate(compose([*TINY, *rprop]))
    build_classifier(validate(plain(config)), "abcdefghij")
    assert build_classifier(config, "abcdefghij").weight_decay == 0


SCHEDULERS = "torch.optim.lr_scheduler"
WARM_UP = (
    "scheduler=constant", "~scheduler.factor", f"scheduler._target_={SCHEDULERS}.SequentialLR",
    f"+scheduler.schedulers=[{{_target_:{SCHEDULERS}.LinearLR,start_factor:0.2,total_iters:auto}},"
    f"{{_target_:{SCHEDULERS}.CosineAnnealingLR,T_max:auto}}]",
)  # fmt: skip


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        # of optim.lr, epoch by epoch
        (["scheduler=multistep"], [1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008]),
        (["scheduler=cosine"], [(1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in range(10)]),
        (
            ["scheduler=onecycle", "scheduler.div_factor=10", "scheduler.final_div_factor=1"],
            [0.1, *(1 - 0.9 * epoch / 8 for epoch in range(9))],
        ),
        (  # 4 epochs up, 6 down: `auto` is the length of the part
            [*WARM_UP, "+scheduler.milestones=[0.4]"],
            [0.2, 0.4, 0.6, 0.8, *((1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6))],
        ),
        (  # both at once, over all 10
            [*WARM_UP, f"scheduler._target_={SCHEDULERS}.ChainedScheduler"],
            [(0.2 + 0.08 * e) * (1 + math.cos(math.pi * e / 10)) / 2 for e in range(10)],
        ),
    ],
    ids=["multistep", "cosine", "onecycle", "sequential", "chained"],
)
def test_a_schedule_that_steps_at_epochs_spans_the_epochs(scheduler, rates):
    config = validate(compose([*TINY[:-1], *scheduler, "scheduler.interval=epoch",
                               "trainer.max_epochs=10"]))  # fmt: skip
    classifier = build_classifier(config, "abcdefghij")
    optimizer = classifier.make_optimizer([{"params": [nn.Parameter(torch.zeros(1))]}])
    schedule = classifier.make_scheduler(optimizer, 5000)["scheduler"]
    seen = []
    for _ in rates:
        seen.append(optimizer.param_groups[0]["lr"] / 0.1)
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx(rates)


@pytest.mark.parametrize(
    "overrides",
    [
        ["scheduler.pct_start=2"],
        ["scheduler.anneal_strategy=wave"],
        ["scheduler=multistep", "scheduler.milestones=[0.3]", "scheduler.gamma=1e200", "optim.lr=1e200"],
        ["scheduler=cosine", "scheduler.eta_min=1.0", "scheduler.T_max=3", "+scheduler.x=1"],
        ["scheduler.total_steps=3"],
        [*WARM_UP, "+scheduler.milestones=[0.2,0.5]"],
    ],
    ids=lambda overrides: overrides[-1],
)  # fmt: skip
def test_a_schedule_that_breaks_is_refused(overrides):
    config = validate(compose(["model=resnet10", "model.width=8", *overrides]))

    def make():
        build_classifier(config, map(str, range(10))).make_scheduler(None, 20)

    with pytest.raises(UserError, match=r"^scheduler: .*(\bwith|lr_scheduler)\b"):
        make()


def test_a_schedule_that_waits_for_a_metric_is_refused():
    plateau = [*WARM_UP[:2], f"scheduler._target_={SCHEDULERS}.ReduceLROnPlateau"]
    with pytest.raises(
        UserError, match=r"^scheduler._target_=.*ReduceLROnPlateau: waits for a metric"
    ):
        build_classifier(validate(compose([*TINY, *plateau])), "abcdefghij")


def test_a_network_is_asked_as_it_will_be_trained(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "augcam.training.build.check_logits", lambda *_, training: asked.append(training)
    )
    mobilenet = ["model=torchvision", "model.arch=mobilenet_v3_small"]
    build_classifier(validate(compose(mobilenet)), "abcdefghij")
    assert asked == [True]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["scheduler.total_steps=3"],
            r"scheduler: OneCycleLR with .*total_steps=3.*3 of its steps",
        ),
        (["trainer.val_check_interval=1000"], r"trainer: .*val_check_interval.*1000.*\(2\)"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_does_not_fit_the_length_of_the_run_is_refused_before_training(
    tmp_path, overrides, words, monkeypatch
):
    from augcam.training.module import Classifier

    def no_training(*_arguments):
        raise AssertionError("training began")

    monkeypatch.setattr(Classifier, "training_step", no_training)
    with pytest.raises(UserError, match=words):
        tiny_run(tmp_path / "run", *overrides)
