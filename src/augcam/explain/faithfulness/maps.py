"""Is the map true? Measures of activation maps, with baselines, intervals and a table of all.

A map is judged by what happens when the pixels it names are removed (insertion and deletion,
ROAD), when the image or the network changes (max-sensitivity, cascading randomisation) and by where
it points when the answer is known (localisation). Maps, networks and functions come as arguments.

Throughout, B is the number of images and N = H * W of their pixels. Measures come back as one
float64 per image, NaN where one is undefined. Equal values of a map are ordered at random by the
seed, the same way for every map of an image; a *degenerate* map (constant, or with a value that is
not finite) says nothing about any pixel and is ranked like a random one. Everything random follows
from the seed alone, whatever the batch; only new weights also depend on the kind of device.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augcam.errors import UserError

Maps = Tensor | np.ndarray


Predict = Callable[[Tensor], Tensor]


# (network, images (B, 3, H, W), targets (B,)) -> maps (B, h, w) by name: a layer's, usually.
Explain = Callable[[nn.Module, Tensor, Tensor], Mapping[Any, Maps]]


# (work done, work in all), in images through the network; called after each batch.
Progress = Callable[[int, int], None]


# So that one seed gives independent streams for different purposes.
_TIES, _NOISE, _RANDOM_MAP, _RADIUS, _MOSAIC = range(5)


# ---------------------------------------------------------------------- maps and their order
def _clean(maps: Maps) -> tuple[np.ndarray, np.ndarray]:
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


def _resized(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps at the image's size, bilinear as heatmaps are."""
    if maps.shape[1:] == (height, width):
        return maps
    large = F.interpolate(
        torch.from_numpy(maps)[:, None], size=(height, width), mode="bilinear", align_corners=False
    )
    return large[:, 0].numpy()


def _ranks(maps: np.ndarray, seed: int) -> np.ndarray:
    """Each pixel's place in the order of importance, 0 first: (B, N) int32."""
    flat = maps.reshape(len(maps), -1)
    ties = np.random.default_rng([seed, _TIES]).random(flat.shape)
    order = np.lexsort((ties, -flat), axis=-1)
    ranks = np.empty(flat.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1], dtype=np.int32)[None], axis=1)
    return ranks


def _check_images(images: Tensor, targets: Tensor) -> None:
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


def _ranks_for(images: Tensor, maps: Maps, seed: int) -> np.ndarray:
    values, _ = _clean(maps)
    if values.shape != (len(images), *images.shape[2:]):
        raise UserError(
            f"maps of the shape {values.shape} do not fit images of the shape "
            f"{tuple(images.shape)}: one value for each pixel of each image is needed"
        )
    return _ranks(values, seed)


def _scores(
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
