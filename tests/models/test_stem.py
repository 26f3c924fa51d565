"""Small images keep their resolution through the first layers, whatever the architecture."""

import pytest
import torch
import torchvision.models as zoo
from torch import nn

from augcam.errors import UserError
from augcam.models.resnet import resnet
from augcam.models.stem import is_patch_embedding, resolved_stem, use_cifar_stem


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [("auto", 32, "cifar"), ("auto", 64, "cifar"), ("auto", 65, "imagenet"),
     ("cifar", 224, "cifar"), ("imagenet", 32, "imagenet")],
)  # fmt: skip
def test_auto_follows_the_size_of_the_images(stem, size, expected):
    assert resolved_stem(stem, size) == expected


def test_torchvisions_resnet18_with_this_stem_is_ours():
    network = zoo.resnet18(num_classes=10)
    assert use_cifar_stem(network) == "conv1"
    assert sum(p.numel() for p in network.parameters()) == 11_173_962
    ours = resnet(10)
    ours.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network.eval()(images), ours.eval()(images))


@pytest.mark.parametrize(
    ("arch", "layer", "before", "after"),
    [
        ("resnet50", "layer1", 8, 32),
        ("densenet121", "features.denseblock1", 8, 32),
        ("mobilenet_v3_small", "features.0", 16, 32),
        ("efficientnet_b0", "features.0", 16, 32),
        ("shufflenet_v2_x0_5", "stage2", 4, 16),  # its max-pool stands beside a stem of its own
    ],
)
def test_the_first_stage_sees_every_pixel(arch, layer, before, after):
    network, sizes = zoo.get_model(arch), []
    network.get_submodule(layer).register_forward_hook(lambda *hook: sizes.append(hook[2].shape[2]))
    network.eval()(torch.zeros(1, 3, 32, 32))
    use_cifar_stem(network)
    network(torch.zeros(1, 3, 32, 32))
    assert sizes == [before, after]


def test_the_max_pool_after_timms_deep_stems_goes_too():
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18d")
    use_cifar_stem(network)
    sizes = []
    network.layer1.register_forward_hook(lambda *hook: sizes.append(hook[2].shape[2]))
    network.eval()(torch.zeros(1, 3, 32, 32))
    assert sizes == [32]


def test_a_convolution_of_3x3_keeps_its_weights():
    network = zoo.mobilenet_v3_small()
    before = network.features[0][0].weight.clone()
    use_cifar_stem(network)
    assert torch.equal(network.features[0][0].weight, before)


def test_patches_are_no_stem():
    assert not is_patch_embedding(zoo.resnet18())
    network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten())
    assert is_patch_embedding(network)
    with pytest.raises(UserError, match="begins with 4x4 patches"):
        use_cifar_stem(network)


def test_our_resnet_with_imagenets_stem_is_torchvisions():
    reference = zoo.resnet18(num_classes=10)
    ours = resnet(10, stem="imagenet")
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), reference.eval()(images))
