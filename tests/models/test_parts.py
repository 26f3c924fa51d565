"""Head, stages, and parts that are not trained."""

import copy

import pytest
import torch
import torchvision.models as zoo
from torch import nn

from augcam.errors import UserError
from augcam.models.parts import freeze, head_name, stages
from augcam.models.resnet import resnet


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("resnet18", "fc"),
        ("densenet121", "classifier"),
        ("mobilenet_v3_small", "classifier.3"),
        ("convnext_tiny", "classifier.2"),
        ("squeezenet1_1", "classifier.1"),
        ("swin_t", "head"),
    ],
)
def test_head_of_torchvisions_networks(arch, head):
    assert head_name(zoo.get_model(arch, num_classes=7), 7, "") == head


def test_a_network_without_such_a_head_is_refused():
    with pytest.raises(UserError, match=r"^model.freeze=1: .* head of ResNet, .* has 7 outputs"):
        head_name(zoo.resnet18(num_classes=10), 7, "model.freeze=1")


RESNET = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: resnet(10), RESNET),
        (lambda: resnet(10, width=8, blocks=(1, 1, 1, 1)), RESNET),
        (lambda: zoo.resnet50(num_classes=10), RESNET),
        (lambda: zoo.mobilenet_v3_small(num_classes=10), [[f"features.{i}"] for i in range(13)]),
        (
            lambda: zoo.VisionTransformer(
                32, 8, 2, num_heads=2, hidden_dim=64, mlp_dim=256, num_classes=10
            ),
            [
                ["conv_proj"],
                ["encoder.layers.encoder_layer_0"],
                ["encoder.layers.encoder_layer_1"],
                ["encoder.ln"],
            ],
        ),
    ],
)
def test_stages(make, expected):
    network = make()
    assert stages(network, head_name(network, 10, "")) == expected


def test_stages_of_a_wrapped_network_are_those_inside():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = resnet(10, width=8)

    assert stages(Wrapped(), "inner.fc")[0] == ["inner.conv1", "inner.bn1"]


def trained(network: nn.Module) -> set[str]:
    """The parameters and statistics that a training step changes."""
    before = copy.deepcopy(network.state_dict())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    return {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}


@pytest.mark.parametrize("parts", [2, ["conv1", "bn1", "layer1"]])
def test_frozen_parts_and_their_statistics_stay_while_the_rest_trains(parts):
    network = resnet(10, width=8, blocks=(1, 1, 1, 1))
    freeze(network, parts, "fc")
    network.train()
    changed = trained(network)
    assert not [name for name in changed if name.startswith(("conv1", "bn1", "layer1"))]
    for name in ("layer2.0.conv1.weight", "layer2.0.bn1.running_mean", "fc.weight"):
        assert name in changed
    assert network.layer2[0].bn1.training
    assert not network.layer1[0].bn1.training


def test_freezing_survives_a_copy():
    network = resnet(10, width=8, blocks=(1, 1, 1, 1))
    freeze(network, 1, "fc")
    twin = copy.deepcopy(network).train()
    assert not twin.bn1.training
    assert "bn1.running_mean" not in trained(twin)


def test_a_prefix_is_whole_names():
    network = zoo.mobilenet_v3_small(num_classes=10)
    freeze(network, ["features.1"])
    frozen = {name.split(".")[1] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"1"}  # and not 10, 11 and 12


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (9, r"model.freeze=9: there are 5 stages: conv1\+bn1, layer1"),
        (["layr1"], r"model.freeze=layr1: no such part; did you mean layer1"),
        (["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"], "nothing is left"),
    ],
)
def test_what_cannot_be_frozen_is_refused(parts, problem):
    with pytest.raises(UserError, match=problem):
        freeze(resnet(10, width=8, blocks=(1, 1, 1, 1)), parts, "fc")
