"""From a config to optimizer and schedule: the head's own learning rate."""

import pytest
from torch import nn

from augcam.config.schema import validate
from augcam.training.build import build_classifier
from tests.conftest import compose

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
    own = {id(p) for p in classifier.network.fc.parameters()}
    rates = {"trunk": [], "head": []}
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


def test_without_it_the_optimizer_is_as_it_was():
    config = validate(compose([*TINY[:-1]]))
    classifier = build_classifier(config, "abcdefghij")
    optimizer = classifier.make_optimizer([{"params": [nn.Parameter(nn.Linear(1, 1).weight.data)]}])
    assert len(optimizer.param_groups) == 1
