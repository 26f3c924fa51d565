"""One image beside its maps: smooth overlays and the cells they come from, layer by layer."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augcam.explain.cam import GradCAM, Maps
from augcam.explain.overlay import overlay


def explain_images(
    network: nn.Module, images: Tensor, targets: Tensor, layers: Sequence[str], method: str
) -> Maps:
    """The maps of images (B, 3, H, W) at each layer, for targets as `GradCAM` takes them."""
    with GradCAM(network, layers=layers, method=method) as cam:
        return cam(images, targets)


def headings(layers: Sequence[str], maps: Maps, side: int) -> list[str]:
    """The columns of `row`: the layers with their size in cells, coarse ones twice."""
    columns = ["image"]
    for layer in layers:
        height, width = maps[layer].raw.shape[1:]
        columns.append(f"{layer}\n{height}x{width}")
        if is_coarse(maps, layer, side):
            columns.append(f"{layer}\ncells")
    return columns


def row(shown: np.ndarray, maps: Maps, number: int, layers: Sequence[str]) -> list[np.ndarray]:
    """One image beside its overlays at each layer.

    A smooth overlay hides how few cells it comes from: where a cell is four pixels wide or more, the
    cells are shown beside it.

    Args:
        shown: uint8 (H, W, 3), the image that the maps are of.
        maps: of a batch; `number` is the image's place in it.
        layers: in the order of the columns.

    Returns:
        uint8 (H, W, 3) pictures, as many as `headings`.
    """
    pictures = [shown]
    for layer in layers:
        found = maps[layer]
        status = found.status[number]
        heat = found.heatmap[number].cpu().numpy()
        pictures.append(overlay(shown, heat, status))
        if is_coarse(maps, layer, shown.shape[0]):
            pictures.append(overlay(shown, cells(found.raw[number], shown.shape[:2]), status))
    return pictures


def is_coarse(maps: Maps, layer: str, side: int) -> bool:
    """Whether a cell of the layer's map covers at least four pixels of an image `side` pixels high."""
    return int(maps[layer].raw.shape[1]) * 4 <= side


def cells(raw: Tensor, size: Sequence[int]) -> np.ndarray:
    """The positive part of one raw map (h, w) as flat cells at `size` (H, W), in [0, 1]."""
    positive = raw.relu().float()[None, None]
    enlarged = F.interpolate(positive, tuple(size), mode="nearest-exact")[0, 0]
    return (enlarged / enlarged.max().clamp_min(torch.finfo(torch.float32).tiny)).cpu().numpy()
