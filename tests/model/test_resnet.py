"""The network is torchvision's ResNet18 with the CIFAR stem, and scales down by width and depth."""

import pytest
import torch
import torchvision
from torch import nn

from augcam.model.resnet import resnet


def test_parameter_count_is_that_of_the_cifar_resnet18():
    assert sum(p.numel() for p in resnet(10).parameters()) == 11_173_962


def test_equals_torchvisions_resnet18_with_the_stem_changed():
    reference = torchvision.models.resnet18(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    network = resnet(10)
    network.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images))


@pytest.mark.parametrize(
    ("layer", "size"), [("layer1", 32), ("layer2", 16), ("layer3", 8), ("layer4", 4)]
)
def test_stages_keep_their_resolution(layer, size):
    network, seen = resnet(10, width=8, blocks=(1, 1, 1, 1)), []
    network.get_submodule(layer).register_forward_hook(lambda *hook: seen.append(hook[2].shape))
    network(torch.randn(1, 3, 32, 32))
    assert seen[0][2:] == (size, size)


def test_a_last_stage_of_stride_one_keeps_eight_cells_a_side():
    network, seen = resnet(10, width=8, blocks=(1, 1, 1, 1), strides=(1, 2, 2, 1)), []
    network.layer4.register_forward_hook(lambda *hook: seen.append(hook[2].shape))
    network(torch.randn(1, 3, 32, 32))
    assert seen[0] == (1, 64, 8, 8)


def test_dropout_sits_before_the_head():
    head = resnet(10, width=8, blocks=(1, 1, 1, 1), dropout=0.3).fc
    assert isinstance(head[0], nn.Dropout)
    assert head[0].p == 0.3
    assert isinstance(head[1], nn.Linear)


def test_weights_start_as_torchvisions_do():
    # Kaiming normal, fan out: std = sqrt(2 / (channels out * 9)).
    weight = resnet(10).layer3[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
