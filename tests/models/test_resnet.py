"""The network is torchvision's ResNet18 with the CIFAR stem, and scales down by width and depth."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from augcam.models.resnet import MatrixConv2d, resnet, whitening_filters


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
    ("stride", "height", "width"), [(1, 4, 4), (2, 8, 8), (2, 7, 5), (1, 3, 5)]
)
def test_the_matrix_product_is_the_convolution_and_has_its_gradients(stride, height, width):
    # Whole numbers so small that bf16 holds them and float32 their sums exactly.
    torch.manual_seed(0)
    images = torch.randint(-2, 3, (3, 16, height, width)).bfloat16().requires_grad_()
    layer = MatrixConv2d(16, 8, 3, stride, padding=1, bias=False).bfloat16()
    torch.nn.init.trunc_normal_(layer.weight).data.round_()
    output = layer(images)
    upstream = torch.randint(-1, 2, output.shape).bfloat16()
    output.backward(upstream)

    exact = (
        images.detach().double().requires_grad_(),
        layer.weight.detach().double().requires_grad_(),
    )
    expected = nn.functional.conv2d(*exact, stride=stride, padding=1)
    expected.backward(upstream.double())
    for ours, theirs in zip(
        [output, images.grad, layer.weight.grad], [expected, *(x.grad for x in exact)], strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=0.01, atol=0)  # bf16 has 8 bits


@pytest.mark.parametrize(("width", "kind"), [(64, MatrixConv2d), (32, nn.Conv2d)])
def test_only_the_wide_last_stage_is_a_matrix_product(width, kind):
    network = resnet(10, width=width, blocks=(1, 1, 1, 1))
    assert type(network.layer4[0].conv2) is kind
    assert type(network.layer3[0].conv2) is nn.Conv2d


@pytest.mark.parametrize("init", ["he", "torch"])
def test_a_seed_begins_with_the_weights_that_it_has_without_matrix_products(init, monkeypatch):
    torch.manual_seed(1)
    with_products = resnet(10, init=init).state_dict()
    monkeypatch.setattr("augcam.models.resnet.MANY_CHANNELS", 10**9)
    torch.manual_seed(1)
    for name, value in resnet(10, init=init).state_dict().items():
        torch.testing.assert_close(with_products[name], value, rtol=0, atol=0)


def test_float32_takes_the_convolution_itself():
    images, layer = torch.randn(2, 16, 4, 4), MatrixConv2d(16, 8, 3, padding=1, bias=False)
    expected = nn.functional.conv2d(images, layer.weight, padding=1)
    torch.testing.assert_close(layer(images), expected, rtol=0, atol=0)


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


def test_init_torch_starts_every_convolution_as_pytorch_does():
    # Uniform in +-1/sqrt(fan in), so std = 1/sqrt(3 * fan in): arXiv 1502.01852 with a = sqrt(5).
    network = resnet(10, init="torch")
    weight = network.layer3[0].conv1.weight
    assert weight.std().item() == pytest.approx((3 * 128 * 9) ** -0.5, rel=0.01)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.abs().max() <= module.weight[0].numel() ** -0.5, name


def test_resnet10_is_34_times_less_arithmetic_than_resnet18():
    def flops(network):
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 32, 32))
        return counter.get_total_flops()

    ratio = flops(resnet(10)) / flops(resnet(10, width=16, blocks=(1, 1, 1, 1)))
    assert ratio == pytest.approx(34.3, abs=0.05)


def patches(images):
    """Every 3x3 patch of images (N, 3, H, W) as a row of 27, by slicing."""
    windows = np.lib.stride_tricks.sliding_window_view(images.numpy(), (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 27).astype(np.float64)


@pytest.fixture
def smooth_images():
    """Noise in which neighbours and channels resemble each other, as they do in photographs."""
    noise = torch.randn(20, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    return (
        nn.functional.avg_pool2d(noise, 3, stride=1) + noise.mean(1, keepdim=True)[..., 1:-1, 1:-1]
    )


def test_whitened_patches_are_uncorrelated_and_of_equal_strength(smooth_images):
    seen = (
        patches(smooth_images) @ whitening_filters(smooth_images, eps=0).reshape(24, 27).numpy().T
    )
    np.testing.assert_allclose(seen.T @ seen / len(seen), np.eye(24), atol=2e-3)


def test_a_direction_weaker_than_eps_is_not_blown_up_to_full_strength(smooth_images):
    rows = patches(smooth_images)
    strengths = np.linalg.svd(rows, compute_uv=False) ** 2 / len(rows)
    seen = rows @ whitening_filters(smooth_images, eps=0.1).reshape(24, 27).numpy().T
    expected = strengths[:24] / (strengths[:24] + 0.1)
    np.testing.assert_allclose(seen.T @ seen / len(seen), np.diag(expected), atol=2e-3)


def test_a_whitening_layer_keeps_the_resolution_and_is_not_trained():
    network = resnet(10, width=8, blocks=(1, 1, 1, 1), whiten=True)
    assert network.conv1(torch.randn(2, 3, 32, 32)).shape == (2, 8, 32, 32)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == ["conv1.0.weight"]
