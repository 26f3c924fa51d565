"""Does a map point at the object? Pointing game, energy, and mosaics whose truth is known."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import MapArray, Stream, cleaned, stream


def pointing_game(maps: MapArray, masks: MapArray) -> np.ndarray:
    """Does the maximum lie on the object? (Zhang et al., arXiv 1608.00507, without tolerance)

    Of several equal maxima the share inside the mask counts: the expected hit of a random choice.
    A degenerate map so gets the mask's share of the image.

    Args:
        maps: (B, H, W).
        masks: (B, H, W) bool, true on the object.

    Returns:
        (B,) in 0..1; higher is better.

    Raises:
        UserError: shapes that differ, or an empty mask.
    """
    values, inside = _maps_and_masks(maps, masks)
    peaks = values == values.max((1, 2), keepdims=True)
    return (peaks & inside).sum((1, 2)) / peaks.sum((1, 2))


def energy_share(maps: MapArray, masks: MapArray) -> np.ndarray:
    """The share of the map's positive mass on the object (Wang et al., arXiv 1910.01279).

    Negative values count as 0; a map without any positive value is taken as spread evenly.
    Arguments, result and errors as for `pointing_game`.
    """
    values, inside = _maps_and_masks(maps, masks)
    values = values.clip(min=0)
    values[~values.any((1, 2))] = 1
    return np.where(inside, values, 0).sum((1, 2)) / values.sum((1, 2))


def _maps_and_masks(maps: MapArray, masks: MapArray) -> tuple[np.ndarray, np.ndarray]:
    values, _ = cleaned(maps)
    inside = np.asarray(masks.cpu() if isinstance(masks, Tensor) else masks, dtype=bool)
    if inside.shape != values.shape:
        raise UserError(f"masks of the shape {inside.shape} do not fit maps of {values.shape}")
    empty = np.flatnonzero(~inside.any((1, 2)))
    if len(empty):
        raise UserError(f"the mask of image {empty[0]} is empty: there is no object to point at")
    return values, inside


class Mosaics(NamedTuple):
    """Mosaics whose true location is known, by `mosaics`."""

    images: np.ndarray
    """(count, 2H, 2W, 3), dtype of the images they were built from."""
    targets: np.ndarray
    """(count,) int64: the class of one quadrant."""
    masks: np.ndarray
    """(count, 2H, 2W) bool: that quadrant."""


def mosaics(images: np.ndarray, labels: np.ndarray, *, count: int, seed: int = 0) -> Mosaics:
    """2x2 mosaics of four images of different classes; a map for one class belongs in its quadrant.

    The grid pointing game of Böhle et al. (arXiv 2104.00032). What a network cannot recognise it
    cannot locate, so give images that it classifies correctly. Classes, the images of a class and
    the target's quadrant are drawn uniformly; an even map has an energy share of 1/4.

    Args:
        images: (n, H, W, 3) uint8 or float.
        labels: (n,) class indices, four classes or more.
        count: mosaics to build.
        seed: of every draw.

    Raises:
        UserError: fewer than four classes, `count` below 1, or shapes that do not fit.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise UserError(
            f"images {images.shape} and labels {labels.shape} do not fit: "
            "(n, height, width, channels) and (n,) are needed"
        )
    classes = np.unique(labels)
    if len(classes) < 4:
        raise UserError(
            "a mosaic is made of four classes, and the images that may be used are of "
            f"{len(classes)}"
        )
    if count < 1:
        raise UserError(f"{count} mosaics: at least 1 is needed")
    generator = stream(seed, Stream.MOSAIC)
    members = {name: np.flatnonzero(labels == name) for name in classes}
    height, width = images.shape[1:3]
    pictures = np.empty((count, 2 * height, 2 * width, images.shape[3]), images.dtype)
    targets = np.empty(count, np.int64)
    masks = np.zeros((count, 2 * height, 2 * width), bool)
    for number in range(count):
        chosen = generator.choice(classes, 4, replace=False)
        asked = generator.integers(4)
        for place, name in enumerate(chosen):
            top, left = place // 2 * height, place % 2 * width
            quadrant = (slice(top, top + height), slice(left, left + width))
            pictures[number][quadrant] = images[generator.choice(members[name])]
            masks[number][quadrant] = place == asked
        targets[number] = chosen[asked]
    return Mosaics(pictures, targets, masks)
