"""Activation maps as the measures take them: checked, at the image's size, their pixels in order.

Throughout this package B is the number of images and N = H * W of their pixels. Measures come back
as one float64 per image, NaN where one is undefined. Equal values of a map are ordered at random by
the seed, the same way for every map of an image; a *degenerate* map (constant, or with a value that
is not finite) says nothing about any pixel and is ranked like a random one. Everything random
follows from the seed alone, whatever the batch.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augcam.errors import UserError

# (B, h, w), higher is more important.
MapArray = Tensor | np.ndarray

# Normalized images (B, 3, H, W) -> probabilities or scores (B, classes).
Predict = Callable[[Tensor], Tensor]

# (network, images (B, 3, H, W), targets (B,)) -> maps (B, h, w) by name: a layer's, usually.
Explain = Callable[[nn.Module, Tensor, Tensor], Mapping[Any, MapArray]]

# (work done, work in all), in images through the network; called after each batch.
Progress = Callable[[int, int], None]


class Stream(IntEnum):
    """What random numbers are for: one seed gives each purpose a stream of its own."""

    TIES = 1
    NOISE = 2
    SHUFFLE = 3
    RADIUS = 4
    MOSAIC = 5
    IMAGES = 7


def stream(seed: int, purpose: Stream, *more: int) -> np.random.Generator:
    """Random numbers of one seed for one purpose.

    Not `default_rng([seed, key])`: NumPy pads a short entropy with zeros, so that [s, 0] is s.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *more)))


def cleaned(maps: MapArray) -> tuple[np.ndarray, np.ndarray]:
    """Maps as float64 (B, h, w), the degenerate ones zero; and which those are, (B,) bool."""
    if isinstance(maps, Tensor):
        maps = maps.detach().cpu().double().numpy()
    values = np.array(maps, dtype=np.float64)
    if values.ndim != 3 or 0 in values.shape:
        raise UserError(f"maps have the shape {values.shape}; (images, height, width) is needed")
    flat = values.reshape(len(values), -1)
    useless = ~np.isfinite(flat).all(1)
    useless |= flat.max(1) == flat.min(1)
    # A constant map has no evidence to share out either, whatever its level.
    values[useless] = 0
    return values, useless


def enlarged(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps at the image's size, bilinear as heatmaps are."""
    if maps.shape[1:] == (height, width):
        return maps
    large = F.interpolate(
        torch.from_numpy(maps)[:, None], size=(height, width), mode="bilinear", align_corners=False
    )
    return large[:, 0].numpy()


def pixel_ranks(maps: np.ndarray, seed: int) -> np.ndarray:
    """Each pixel's place in the order of importance, 0 first: (B, N) int32 of (B, H, W)."""
    flat = maps.reshape(len(maps), -1)
    ties = stream(seed, Stream.TIES).random(flat.shape)
    order = np.lexsort((ties, -flat), axis=-1)
    ranks = np.empty(flat.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1], dtype=np.int32)[None], axis=1)
    return ranks


def check_images(images: Tensor, targets: Tensor) -> None:
    """Refuse, with a UserError, images that are not (B, C, H, W) or targets that are not (B,)."""
    if images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"images have the shape {tuple(images.shape)}; "
            "(images, channels, height, width) is needed, at least one of each"
        )
    if targets.shape != images.shape[:1]:
        raise UserError(
            f"targets have the shape {tuple(targets.shape)}; "
            f"one class index for each of the {len(images)} images is needed"
        )


def target_scores(
    predict: Predict, perturbed: Callable[[slice], Tensor], targets: Tensor, batch: int
) -> np.ndarray:
    """The target's score for each image, (B,); only one batch of images exists at a time."""
    parts = []
    for start in range(0, len(targets), batch):
        part = slice(start, start + batch)
        with torch.no_grad():
            scores = predict(perturbed(part)).cpu().double()
        parts.append(scores.gather(1, targets[part, None].cpu().long()).squeeze(1).numpy())
    return np.concatenate(parts)
