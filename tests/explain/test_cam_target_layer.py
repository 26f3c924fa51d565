"""`auto` finds the right layer of each architecture, and the map there is pytorch-grad-cam's."""

import math
from typing import cast

import pytest
import pytorch_grad_cam
import torch
import torchvision.models as zoo
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.cam import GradCAM, layer_names, page_layers, target_layer
from augcam.models.resnet import resnet

CLASSES = 5


class RawGradCam(pytorch_grad_cam.GradCAM):
    """pytorch-grad-cam's GradCAM, which keeps the signed map that it has before ReLU."""

    def get_cam_image(self, *args, **kwargs):
        self.raw = super().get_cam_image(*args, **kwargs)
        return self.raw


def square(tokens: Tensor, prefix: int) -> Tensor:
    """pytorch-grad-cam's `reshape_transform` of its ViT example, by its README."""
    side = math.isqrt(tokens.shape[1] - prefix)
    result = tokens[:, prefix:].reshape(len(tokens), side, side, tokens.shape[2])
    return result.transpose(2, 3).transpose(1, 2)


def vit_tokens(tokens: Tensor) -> Tensor:
    return square(tokens, prefix=1)


def channels_first(output: Tensor) -> Tensor:
    """Its `reshape_transform` of Swin where the model keeps (B, h, w, K)."""
    return output.permute(0, 3, 1, 2)


def vgg() -> nn.Module:
    model = zoo.vgg11(init_weights=False, num_classes=CLASSES)
    model.classifier = nn.Linear(512 * 7 * 7, CLASSES)  # the real one has 100 million weights
    return model


# Name: (network, image side, layer that `auto` must find, reshape_transform)
TORCHVISION = {
    "resnet18": (lambda: zoo.resnet18(num_classes=CLASSES), 96, "layer4", None),
    "resnet50": (lambda: zoo.resnet50(num_classes=CLASSES), 64, "layer4", None),
    "ours": (lambda: resnet(CLASSES, width=8), 32, "layer4", None),
    "convnext": (lambda: zoo.convnext_tiny(num_classes=CLASSES), 96, "features", None),
    "efficientnet": (lambda: zoo.efficientnet_b0(num_classes=CLASSES), 96, "features", None),
    "mobilenet v2": (lambda: zoo.mobilenet_v2(num_classes=CLASSES), 96, "features", None),
    "mobilenet v3": (lambda: zoo.mobilenet_v3_small(num_classes=CLASSES), 96, "features", None),
    "vgg": (vgg, 96, "features", None),
    "densenet": (lambda: zoo.densenet121(num_classes=CLASSES), 96, "features", None),
    "vit": (
        lambda: zoo.VisionTransformer(
            64, 16, 3, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=CLASSES
        ),
        64, "encoder.layers.encoder_layer_2.ln_1", vit_tokens,
    ),
    "swin": (
        lambda: zoo.SwinTransformer(
            [4, 4], 24, [2, 2, 2], [2, 2, 4], [4, 4], num_classes=CLASSES
        ),
        64, "norm", channels_first,
    ),
}  # fmt: skip

TIMM = {
    "resnet18": (96, "layer4", None),
    "convnext_atto": (96, "stages", None),
    "efficientnet_b0": (96, "bn2", None),
    "mobilenetv3_small_050": (96, "blocks", None),
    "densenet121": (96, "features", None),
    "vit_tiny_patch16_224": (224, "blocks.11.norm1", vit_tokens),
    "vit_pwee_patch16_reg1_gap_256": (
        256,
        "blocks.15.in_norm",
        lambda tokens: square(tokens, prefix=1),
    ),
    "swin_tiny_patch4_window7_224": (224, "norm", channels_first),
}


def lively(model: nn.Module) -> nn.Module:
    """Weights that do not vanish: some heads start at zero, and normalisation at the identity."""
    torch.manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if "Norm" in type(module).__name__:
                nn.init.uniform_(parameter, 0.5, 1.5)
            elif not parameter.any():
                nn.init.normal_(parameter, std=0.1)
            assert parameter.any(), name
    return model.double().eval()


def differs_from_peer(model: nn.Module, side: int, layer: str, reshape) -> float:
    """The largest difference from pytorch-grad-cam's raw map at `layer`, as a share of its peak."""
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1)).double()
    targets = torch.tensor([1, 3])
    with GradCAM(model) as cam:
        ours = cam(images, targets)[layer]
        assert cam.layers == (layer,)
    module = model.get_submodule(layer)
    with RawGradCam(model, [module], reshape_transform=reshape) as peer:
        # It keeps the output itself, which an in-place ReLU behind the layer would overwrite.
        copied = module.register_forward_hook(lambda module, inputs, output: output.clone())
        peer(images, [ClassifierOutputTarget(int(target)) for target in targets])
        copied.remove()
    theirs = torch.as_tensor(peer.raw)
    assert ours.raw.shape == theirs.shape
    assert ours.heatmap.shape == (2, side, side)
    peak = theirs.abs().amax(dim=(1, 2), keepdim=True)
    assert (peak > 0).all()
    return float(((ours.raw - theirs) / peak).abs().max())


@pytest.mark.parametrize("name", TORCHVISION)
def test_map_of_the_target_layer_of_torchvisions_networks(name):
    make, side, layer, reshape = TORCHVISION[name]
    assert differs_from_peer(lively(make()), side, layer, reshape) <= 1e-6


@pytest.mark.parametrize("name", TIMM)
def test_map_of_the_target_layer_of_timms_networks(name):
    timm = pytest.importorskip("timm")
    side, layer, reshape = TIMM[name]
    model = lively(timm.create_model(name, num_classes=CLASSES))
    assert differs_from_peer(model, side, layer, reshape) <= 1e-6


def test_a_new_head_of_zeros_does_not_hide_the_way_to_the_logits():
    model = TORCHVISION["vit"][0]()
    assert not model.heads.head.weight.any()  # torchvision starts it at zero
    assert target_layer(model, (64, 64)) == "encoder.layers.encoder_layer_2.ln_1"
    assert not model.heads.head.weight.any()


@pytest.mark.parametrize("make", [zoo.resnet18, zoo.resnet50])
def test_where_the_last_stage_has_one_cell_the_stage_before_is_taken(make):
    # ImageNet's stem and 32 pixels: layer4 is 1x1, layer3 is 2x2, as is half of ResNet50's layer4.
    assert target_layer(make(num_classes=CLASSES), (32, 32)) == "layer3"


def test_where_all_stages_are_one_module_its_last_layer_with_more_cells_is_taken():
    # 32 pixels and five max-pools: `features` is 1x1, its last convolution and ReLU are 2x2.
    model = zoo.vgg11(init_weights=False)
    model.avgpool, model.classifier = (
        nn.Identity(),
        nn.Sequential(nn.Flatten(), nn.Linear(512, CLASSES)),
    )
    assert target_layer(model, (32, 32)) == "features.19"
    assert isinstance(model.features[19], nn.ReLU)


@pytest.mark.parametrize(
    ("make", "side", "layers"),
    [
        (lambda: resnet(CLASSES, width=8), 32, ("layer1", "layer2", "layer3", "layer4")),
        (lambda: zoo.resnet18(num_classes=CLASSES), 32, ("layer1", "layer2", "layer3")),
        (lambda: zoo.mobilenet_v3_small(num_classes=CLASSES), 64, ("features",)),
    ],
)
def test_a_page_shows_the_stages_of_a_resnet_and_one_layer_of_others(make, side, layers):
    assert page_layers(make(), (side, side)) == layers


def test_auto_stands_among_names_and_each_layer_counts_once():
    model = resnet(CLASSES, width=8)
    assert layer_names(model, ("layer3", "auto", "layer4"), (32, 32)) == ("layer3", "layer4")


def test_no_layer_that_makes_maps_is_an_error():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, CLASSES))
    with pytest.raises(UserError, match=r"No layer of Sequential makes maps.* explain\.images=0"):
        target_layer(model, (8, 8))


def test_the_search_leaves_the_model_as_it_was():
    model = resnet(CLASSES, width=8).train()
    before = [(id(p), p.requires_grad, p.clone()) for p in model.parameters()]
    state = torch.random.get_rng_state()
    target_layer(model, (32, 32))
    after = [(id(p), p.requires_grad) for p in model.parameters()]
    assert after == [(number, grad) for number, grad, _ in before]
    assert all(
        torch.equal(p, old) for p, (_, _, old) in zip(model.parameters(), before, strict=True)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_a_compiled_network_has_the_layer_of_the_network_itself():
    compiled = cast(nn.Module, torch.compile(resnet(CLASSES, width=8)))
    assert target_layer(compiled, (32, 32)) == "layer4"
