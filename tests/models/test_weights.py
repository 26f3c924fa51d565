"""Weights from a file: nothing is executed, and nothing is left out without a word."""

import pickle
import re

import pytest
import torch
import torchvision.models as zoo
from torch import nn

from augcam.errors import UserError
from augcam.models.resnet import resnet
from augcam.models.weights import load_weights, read_weights


def small(classes: int = 10) -> nn.Module:
    return resnet(classes, width=8, blocks=(1, 1, 1, 1))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"network.{n}": v for n, v in state.items()}, "epoch": 3},
        lambda state: {"model": {f"module.{n}": v for n, v in state.items()}, "arch": "resnet"},
        lambda state: {"state_dict": {f"model._orig_mod.{n}": v for n, v in state.items()}},
    ],
    ids=["state dict", "Lightning", "DataParallel", "compiled"],
)
def test_the_same_weights_in_any_wrapping(tmp_path, wrap):
    state = small().state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    network = small()
    assert load_weights(network, read_weights(tmp_path / "w.pt"), (), "w.pt") == []
    read = network.state_dict()
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize("wrapper", ["", "network.", "model.", "module.network."])
@pytest.mark.parametrize("part", ["model", "network", "module"])
def test_a_network_may_call_a_part_of_its_own_as_wrappers_do(part, wrapper):
    theirs, ours = (nn.ModuleDict({part: nn.Linear(3, 2)}) for _ in range(2))
    state = {f"{wrapper}{name}": value for name, value in theirs.state_dict().items()}
    assert load_weights(ours, state, (), "w.pt") == []
    assert torch.equal(ours.state_dict()[f"{part}.weight"], theirs.state_dict()[f"{part}.weight"])


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = small().state_dict()
    safetensors.save_file(state, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(read[name], state[name]) for name in state)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_what_is_no_file_of_weights_is_refused_and_not_executed(tmp_path, capsys):
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "nothing.pt")
    for name in ("evil.pt", "pickle.pt", "text.pt", "empty.pt", "list.pt", "nothing.pt", "no.pt"):
        with pytest.raises(UserError, match=name):
            read_weights(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def test_all_weights_are_loaded():
    theirs, ours = small(), small()
    assert load_weights(ours, theirs.state_dict(), ["fc"], "w.pt") == []
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_a_densenet_is_loaded_from_the_names_in_torchvisions_files():
    # Their pattern, from torchvision/models/densenet.py, the other way round.
    pattern = r"(denselayer\d+\.(?:norm|conv))([12])\."
    theirs, ours = (zoo.DenseNet(4, (2, 1), 8, num_classes=5) for _ in range(2))
    state = {re.sub(pattern, r"\1.\2.", n): value for n, value in theirs.state_dict().items()}
    assert "features.denseblock1.denselayer2.norm.1.weight" in state
    assert load_weights(ours, state, (), "w.pt") == []
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_heads_that_serve_the_training_alone_are_left_out_where_the_network_has_none():
    theirs = zoo.GoogLeNet(num_classes=3, aux_logits=True, init_weights=False).state_dict()
    without = zoo.GoogLeNet(num_classes=3, aux_logits=False, init_weights=False)
    assert load_weights(without, theirs, (), "w.pt") == []
    having = zoo.GoogLeNet(num_classes=3, aux_logits=True, init_weights=False)
    assert load_weights(having, theirs, (), "w.pt") == []
    assert torch.equal(having.get_parameter("aux1.fc2.weight"), theirs["aux1.fc2.weight"])
    with pytest.raises(UserError, match=r"aux1.*: missing there"):
        load_weights(having, without.state_dict(), (), "w.pt")


def test_a_head_of_other_classes_stays_new():
    theirs, ours = small(100), small(10)
    head = ours.get_parameter("fc.weight").clone()
    assert load_weights(ours, theirs.state_dict(), ["fc"], "w.pt") == ["fc.weight", "fc.bias"]
    assert torch.equal(ours.get_parameter("fc.weight"), head)
    assert torch.equal(*(net.get_parameter("layer4.0.conv1.weight") for net in (ours, theirs)))


@pytest.mark.parametrize(
    ("theirs", "problem"),
    [
        (lambda: resnet(10, width=16, blocks=(1, 1, 1, 1)), r"conv1.weight: \(16, 3, 3, 3\) there"),
        (lambda: resnet(10, width=8, blocks=(1, 1, 1, 2)), r"layer4.1.*, missing in the network"),
        (lambda: nn.Linear(3, 10), "0 of 74 tensors fit; conv1.weight: missing there"),
    ],
)
def test_another_networks_weights_are_refused_and_nothing_is_loaded(theirs, problem):
    ours = small()
    before = ours.get_parameter("conv1.weight").clone()
    with pytest.raises(UserError, match=problem):
        load_weights(ours, theirs().state_dict(), ["fc"], "w.pt")
    assert torch.equal(ours.get_parameter("conv1.weight"), before)
