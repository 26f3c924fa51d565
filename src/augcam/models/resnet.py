"""torchvision's ResNet with the CIFAR stem: small images keep their resolution."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

# Of the 27 directions in a 3x3 patch of three channels: the last three are next to nothing in a
# photograph, and torch's CPU convolutions want channels in eights.
WHITENED = 24

# With so many channels on so few cells, a CPU's bf16 convolution takes most of its time for the gradient
# of the weights, and far more than the same matrix product does: docs/performance.md.
MANY_CHANNELS, FEW_CELLS = 512, 16


class MatrixConv2d(nn.Conv2d):
    """A 3x3 convolution of padding 1 that is computed as one matrix product where that is faster.

    The product is that of (B*h*w, 9*channels in), the neighbourhoods of the h*w cells of the output,
    with (9*channels in, channels out). Where it pays: on a CPU, in bf16, with `FEW_CELLS` or fewer,
    which makes a step of ResNet18 faster (docs/performance.md says by how much); everywhere else this is
    `nn.Conv2d`. The weights are the same and lie the same way; bf16 sums may round otherwise.
    """

    def forward(self, input: Tensor) -> Tensor:
        """From (B, channels in, H, W) to (B, channels out, h, w), as `nn.Conv2d` has it."""
        height, width, stride = *input.shape[2:], self.stride[0]
        cells = -(-height // stride) * -(-width // stride)
        if input.device.type != "cpu" or input.dtype != torch.bfloat16 or cells > FEW_CELLS:
            return super().forward(input)
        padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        shifted = [
            padded[:, row : row + height : stride, column : column + width : stride]
            for row in range(3)
            for column in range(3)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # no copy where it lies channels_last
        return F.linear(torch.cat(shifted, dim=-1), weight).permute(0, 3, 1, 2)


def resnet(
    num_classes: int,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    strides: Sequence[int] = (1, 2, 2, 2),
    dropout: float = 0.0,
    whiten: bool = False,
    init: Literal["he", "torch"] = "he",
    stem: Literal["cifar", "imagenet"] = "cifar",
) -> ResNet:
    """A residual network of basic blocks (He et al., arXiv 1512.03385) for 32x32 images.

    The first convolution is 3x3 with stride 1 and there is no max-pool, so with the default strides
    the four stages see maps of 32, 16, 8 and 4 pixels. With all defaults this is torchvision's
    `resnet18` so changed: 11,173,962 parameters for ten classes.

    Args:
        num_classes: length of the logits.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        blocks: basic blocks of each of the four stages.
        strides: of the first block of each stage; (1, 2, 2, 1) leaves the last at 8x8 cells.
        dropout: probability of dropping a feature before the head.
        whiten: put a fixed layer of `WHITENED` 3x3 filters, `conv1[0]`, before the first convolution,
            which then is 1x1. It whitens nothing before `whitening_filters` are copied into it.
        init: of the convolutions: `he`, Kaiming normal with fan out, as torchvision has it (He et al.,
            arXiv 1502.01852); or `torch`, what `nn.Conv2d` starts with, a sixth of that variance where
            as many channels go out as come in.
        stem: `imagenet` keeps the 7x7 convolution of stride 2 and the max-pool, for 224 pixels.

    Returns:
        A network from (B, 3, H, W) float to (B, num_classes) logits, its layers named `layer1` to
        `layer4`.
    """
    network = ResNet(BasicBlock, list(blocks), num_classes=num_classes)
    network.inplanes = width
    if stem == "imagenet":
        network.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    else:
        network.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    if whiten:
        fixed = nn.Conv2d(3, WHITENED, kernel_size=3, padding=1, bias=False).requires_grad_(False)
        network.conv1 = nn.Sequential(fixed, nn.Conv2d(WHITENED, width, kernel_size=1, bias=False))
    network.bn1 = nn.BatchNorm2d(width)
    for stage, (depth, stride) in enumerate(zip(blocks, strides, strict=True)):
        layer = network._make_layer(BasicBlock, width * 2**stage, depth, stride=stride)
        setattr(network, f"layer{stage + 1}", layer)
    for block in network.layer4 if width * 8 >= MANY_CHANNELS else []:
        for name in ("conv1", "conv2"):
            plain = getattr(block, name)
            shape = plain.in_channels, plain.out_channels, 3, plain.stride
            # Without weights of its own: a seed begins with those that it always began with.
            matrix = nn.utils.skip_init(MatrixConv2d, *shape, padding=1, bias=False)
            matrix.weight = plain.weight
            setattr(block, name, matrix)
    head = nn.Linear(width * 8, num_classes)
    network.fc = nn.Sequential(nn.Dropout(dropout), head) if dropout else head
    if init == "torch":
        return network  # every convolution above is a new one
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def whitening_filters(images: Tensor, eps: float = 1e-2) -> Tensor:
    """Filters whose outputs on `images` are uncorrelated and of equal strength.

    Neighbouring pixels are nearly equal, so what a plain first layer sees is one large direction,
    brightness, and many small ones that SGD learns slowly. Page, "How to train your ResNet 8"
    (2019); Jordan, arXiv 2404.00498, section 3.2, where nothing else speeds up training as much.

    Args:
        images: float (N, 3, H, W), normalized as for training; a few hundred are enough.
        eps: added to the variance of each direction, so that noise is not blown up.

    Returns:
        float (`WHITENED`, 3, 3, 3), strongest direction first: the eigenvectors of the patches' second
        moments E[x xᵀ], each divided by the root of its eigenvalue plus `eps`.
    """
    patches = F.unfold(images, kernel_size=3).transpose(0, 1).flatten(1)
    variances, directions = torch.linalg.eigh(patches @ patches.T / patches.shape[1])
    filters = (directions / (variances + eps).sqrt()).T.flip(0)[:WHITENED]
    return filters.reshape(WHITENED, 3, 3, 3)
