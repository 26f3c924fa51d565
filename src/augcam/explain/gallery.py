"""Rows of pictures that explain images: smooth maps beside their cells, layer by layer."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augcam.explain.cam import GradCAM, Maps
from augcam.explain.overlay import overlay


def explain(
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


def choose(
    wanted: np.ndarray, confidence: np.ndarray, count: int, seed: int, confident: bool
) -> np.ndarray:
    """`count` indices where `wanted` is true: the most confident, or a random choice by `seed`.

    Args:
        wanted: bool (N,).
        confidence: float (N,).

    Returns:
        int64 (min(count, sum of wanted),).
    """
    index = np.flatnonzero(wanted)
    if confident:
        return index[np.argsort(-confidence[index], kind="stable")[:count]]
    return np.sort(np.random.default_rng(seed).permutation(index)[:count])


def confused_pairs(
    confusion: np.ndarray, classes: Sequence[str], count: int
) -> list[tuple[str, str, int, float]]:
    """The most confused pairs: (true, predicted, how many, share of the true class), most first.

    Args:
        confusion: counts (C, C), rows = true class.
    """
    counts = np.array(confusion)
    sizes = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:count]
    pairs = [divmod(int(flat), len(classes)) for flat in order]
    return [
        (classes[t], classes[p], int(counts[t, p]), float(counts[t, p] / max(1, sizes[t])))
        for t, p in pairs
        if counts[t, p] > 0
    ]


def map_statistics(maps: Maps, number: int, concentration: Mapping[str, np.ndarray]) -> dict:
    """What can be said of one image's maps in numbers, by layer."""
    return {
        layer: {
            "status": found.status[number],
            "peak": float(found.raw[number].max()),
            "concentration": float(concentration[layer][number]),
            "cells": list(found.raw.shape[1:]),
        }
        for layer, found in maps.items()
    }
