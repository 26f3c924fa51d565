"""What a config may build, and what it may not."""

import sys

import albumentations as A
import pytest
import torch
from pytorch_lightning import Callback
from torch import nn

from augcam.config import build as module
from augcam.config.build import build, refusals, trust_given
from augcam.errors import UserError


@pytest.fixture(autouse=True)
def _trust_ends_with_the_test(monkeypatch):
    monkeypatch.setattr(module, "_trusted", set())
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_an_optimizer_gets_the_very_parameters_that_it_is_given():
    weights = [nn.Parameter(torch.ones(2))]
    node = {"_target_": "torch.optim.SGD", "lr": 0.5}
    optimizer = build(node, torch.optim.Optimizer, "optim", params=weights)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["params"][0] is weights[0]
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_arguments_may_be_described_too():
    inner = [{"_target_": "albumentations.Blur", "p": 1.0}, {"_target_": "albumentations.CLAHE"}]
    node = {"_target_": "albumentations.OneOf", "transforms": inner, "p": 1.0}
    made = build(node, A.BaseCompose, "aug.x")
    assert [type(one) for one in made.transforms] == [A.Blur, A.CLAHE]


@pytest.mark.parametrize(
    "target",
    ["os.system", "torch.load", "numpy.load", "builtins.eval", "hydra.utils.instantiate", "open",
     "torch.optim", "torch.optim..SGD", "torch.nn.__builtins__.eval", "torchx.optim.SGD", 3, None],
)  # fmt: skip
def test_what_no_list_lets_in_is_refused_by_its_name_alone(target):
    with pytest.raises(UserError, match=r"x\._target_="):
        build({"_target_": target}, torch.optim.Optimizer, "x")


@pytest.mark.parametrize(
    "target",
    ["augcam.atomic.write_atomically", "augcam.runs.run_folder.RunFolder", "torch.nn.init.ones_",
     "torch.optim.lr_scheduler.StepLR", "albumentations.load", "albumentations.Rotate",
     "torch.nn.modules.module.os.system", "torchvision.io.write_file", "torchvision.datasets.CIFAR10"],
)  # fmt: skip
def test_only_the_kind_that_is_asked_for_is_built(target):
    with pytest.raises(UserError, match=r"is not an Optimizer|no such class"):
        build({"_target_": target}, torch.optim.Optimizer, "optim")


def test_what_stands_inside_is_checked_as_well(tmp_path):
    for inner in ("os.mkdir", "augcam.atomic.write_atomically", "albumentations.load"):
        node = {
            "_target_": "albumentations.OneOf",
            "transforms": [{"_target_": inner, "path": "x"}],
        }
        with pytest.raises(UserError, match=r"aug\.x\.transforms\.0"):
            build(node, A.BaseCompose, "aug.x")


def test_the_nearest_names_are_given():
    with pytest.raises(UserError, match="did you mean SGD"):
        build({"_target_": "torch.optim.SGDD"}, torch.optim.Optimizer, "optim")
    with pytest.raises(UserError, match="did you mean EarlyStopping"):
        build({"_target_": "pytorch_lightning.callbacks.EarlyStoping"}, Callback, "callbacks.x")


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ({"lr": "a"}, "optim: torch.optim.SGD: "),
        ({"no_such": 1}, "'no_such'; remove it with ~optim.no_such"),
        ({"lr": float("nan")}, "optim.lr=nan: must be a finite number"),
        ({"lr": "${oc.env:HOME}"}, "is resolved when a config is composed"),
        ({"_partial_": True}, "optim._partial_: there is no such key"),
        ({"_args_": [1]}, "optim._args_: there is no such key"),
    ],
)
def test_wrong_arguments_are_answered_in_words(node, problem):
    weights = [nn.Parameter(torch.ones(2))]
    with pytest.raises(UserError, match=problem):
        build(
            {"_target_": "torch.optim.SGD"} | node, torch.optim.Optimizer, "optim", params=weights
        )


def test_a_package_of_the_users_own_needs_their_trust(tmp_path, monkeypatch):
    (tmp_path / "mypackage.py").write_text(
        "import torch\nclass Mine(torch.optim.SGD): pass\ndef load(params): return 7\n"
    )
    monkeypatch.chdir(tmp_path)
    node = {"_target_": "mypackage.Mine", "lr": 1.0}
    weights = [nn.Parameter(torch.ones(2))]
    with pytest.raises(UserError, match=r"trust=\[mypackage\]"):
        build(node, torch.optim.Optimizer, "optim", params=weights)
    assert "mypackage" not in sys.modules
    assert trust_given(["seed=1", "trust=[mypackage]"]) == ["seed=1"]
    made = build(node, torch.optim.Optimizer, "optim", params=weights)
    assert type(made).__name__ == "Mine"
    with pytest.raises(
        UserError, match=r"is not an Optimizer"
    ):  # trusted, and still of the wrong kind
        build({"_target_": "mypackage.load"}, torch.optim.Optimizer, "optim", params=weights)
    assert refusals({"_target_": "mypackage2.Mine"}, "x")


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"there is no such class|needs the package"):
        build({"_target_": "torchmetrics.nowhere.X"}, nn.Module, "x")
