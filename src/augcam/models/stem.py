"""First layers for small images: no stride and no pooling before the first stage."""

from typing import Literal

from torch import nn

from augcam.errors import UserError

# Up to this many pixels a side ImageNet's first layers leave next to nothing for the last stage.
SMALL = 64


def resolved_stem(
    stem: Literal["auto", "cifar", "imagenet"], image_size: int
) -> Literal["cifar", "imagenet"]:
    """`auto` is `cifar` for images of up to 64 pixels a side, and `imagenet` for larger ones."""
    if stem != "auto":
        return stem
    return "cifar" if image_size <= SMALL else "imagenet"


def is_patch_embedding(network: nn.Module) -> bool:
    """Whether the first convolution cuts the image into patches, as in ViT, Swin and ConvNeXt."""
    first = first_convolution(network)[1]
    return first is None or first.kernel_size == first.stride


def use_cifar_stem(network: nn.Module) -> str:
    """Change the first layers in place as He et al. (arXiv 1512.03385, section 4.2) have them for CIFAR.

    The first convolution gets stride 1 and a kernel of 3x3 at most, with new weights where its size
    changes; a max-pool before the first stage goes (torchvision's and timm's `maxpool`, `pool0`).

    Returns:
        The name of the first convolution.

    Raises:
        UserError: the network begins with patches.
    """
    name, convolution = first_convolution(network)
    if convolution is None or is_patch_embedding(network):
        size = f"{convolution.kernel_size[0]}x{convolution.kernel_size[1]} " if convolution else ""
        raise UserError(
            f"model.stem=cifar: this network begins with {size}patches, not with a stem; "
            "leave it at model.stem=auto"
        )
    parent = network.get_submodule(name.rpartition(".")[0])  # of "" it is the network itself
    if max(convolution.kernel_size) > 3:
        smaller = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            kernel_size=3,
            padding=1,
            groups=convolution.groups,
            bias=convolution.bias is not None,
        )
        nn.init.kaiming_normal_(smaller.weight, mode="fan_out", nonlinearity="relu")
        setattr(parent, name.rpartition(".")[2], smaller)
    else:
        convolution.stride = (1, 1)
    for holder in (parent, network):  # a stem of several convolutions is a module of its own
        for pool in ("maxpool", "pool0"):
            if isinstance(getattr(holder, pool, None), nn.MaxPool2d):
                setattr(holder, pool, nn.Identity())
    return name


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d | None]:
    """The network's first convolution and its name; None in a network without one."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    return "", None
