"""Transforms drawn and applied for a whole batch at once: the pixels of the per-image way in less time.

Of a flip, Albumentations' call takes ten times as long as the pixels. `TABLE` names the transforms that
have a batch form; all others go image by image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import albumentations as A
import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from augcam.data.augment import ops
from augcam.data.augment.streams import BatchStreams

# images: uint8 (N, H, W, 3), changed in place. rows: int (M,), those that the transform is applied to.
BatchForm: TypeAlias = Callable[[Any, np.ndarray, np.ndarray, BatchStreams], None]


def _flip(flip: A.HorizontalFlip, images: np.ndarray, rows: np.ndarray, _: BatchStreams) -> None:
    # One picture as high as all of them together. [:, :, ::-1] is slower by twenty times.
    _, _, width, channels = images.shape
    tall = cv2.flip(images[rows].reshape(-1, width, channels), 1)
    images[rows] = tall.reshape(-1, *images.shape[1:])


def _alternating_flip(
    flip: ops.AlternatingFlip, images: np.ndarray, rows: np.ndarray, streams: BatchStreams
) -> None:
    if len(mirrored := rows[np.asarray(flip.turn)[rows] % 2 == 1]):
        _flip(A.HorizontalFlip(), images, mirrored, streams)


def _crop(crop: ops.PadCrop, images: np.ndarray, rows: np.ndarray, streams: BatchStreams) -> None:
    _, height, width, channels = images.shape
    pad, mode = crop.padding, crop.border_mode
    top = streams.below(rows, 2 * pad + 1)
    left = streams.below(rows, 2 * pad + 1)
    # Rows of pixels are picked where padding would have put them; -1 stands for a plain border.
    source = np.array([cv2.borderInterpolate(y, height, mode) for y in range(-pad, height + pad)])
    picked = source[top[:, None] + np.arange(height)]
    tall = images[rows[:, None], picked]
    tall[picked < 0] = 0
    wide = cv2.copyMakeBorder(tall.reshape(-1, width, channels), 0, 0, pad, pad, mode)
    windows = sliding_window_view(wide.reshape(len(rows), height, -1), width * channels, axis=2)
    images[rows] = windows[np.arange(len(rows)), :, channels * left].reshape(tall.shape)


def _cutout(
    cutout: ops.Cutout, images: np.ndarray, rows: np.ndarray, streams: BatchStreams
) -> None:
    _, height, width, _ = images.shape
    top = streams.below(rows, height) - cutout.size // 2
    left = streams.below(rows, width) - cutout.size // 2
    _fill(images, rows, top, left, top + cutout.size, left + cutout.size, cutout.fill)


def _coarse_dropout(
    dropout: A.CoarseDropout, images: np.ndarray, rows: np.ndarray, streams: BatchStreams
) -> None:
    _, height, width, _ = images.shape
    fewest, most = dropout.num_holes_range
    number = fewest + streams.below(rows, most - fewest + 1)
    holes = [rows[number > hole] for hole in range(most)]  # the images that have one so numbered

    def drawn(low: int, highs: list[Any]) -> list[np.ndarray]:
        return [
            streams.integers(having, low, high) for having, high in zip(holes, highs, strict=True)
        ]

    def sides(limits: tuple[float, float], longest: int) -> list[np.ndarray]:
        low, high = limits
        return drawn(int(low), [int(min(high, longest) + 1)] * most)

    heights = sides(dropout.hole_height_range, height)
    widths = sides(dropout.hole_width_range, width)
    tops = drawn(0, [height - side + 1 for side in heights])
    lefts = drawn(0, [width - side + 1 for side in widths])
    streams.integers(rows, 0, 2**32 - 1)  # a seed, which a plain fill has no use for
    for having, top, left, high, wide in zip(holes, tops, lefts, heights, widths, strict=True):
        _fill(images, having, top, left, top + high, left + wide, dropout.fill)


def _fill(
    images: np.ndarray,
    rows: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    bottom: np.ndarray,
    right: np.ndarray,
    fill: Any,
) -> None:
    """Fill a rectangle, clipped at the upper and left border, in each of the images `rows`."""
    colour = np.array(fill, images.dtype)
    corners = (rows, np.maximum(top, 0), np.maximum(left, 0), bottom, right)
    # One assignment an image: a mask of the whole batch takes four times as long.
    for row, y, x, below, beyond in zip(*(part.tolist() for part in corners), strict=True):
        images[row, y:below, x:beyond] = colour


def _rotate(
    rotate: ops.Rotate, images: np.ndarray, rows: np.ndarray, streams: BatchStreams
) -> None:
    low, high = rotate.limit
    angles = low + (high - low) * streams.random(rows)
    for row, angle in zip(rows.tolist(), angles.tolist(), strict=True):
        matrix = rotate.matrix(math.radians(angle), *images.shape[1:3])
        images[row] = rotate.apply(images[row], matrix)


@dataclass(frozen=True)
class _Form:
    apply: BatchForm
    fits: Callable[[Any], bool] = lambda transform: True  # whether its settings have the batch form


def _plain_holes(dropout: A.CoarseDropout) -> bool:
    """Holes of a plain colour, their sides in pixels: shares of the image are drawn otherwise."""
    return dropout.hole_height_range[1] >= 1 and not isinstance(dropout.fill, str)


TABLE: dict[type, _Form] = {
    A.HorizontalFlip: _Form(_flip),
    ops.AlternatingFlip: _Form(_alternating_flip),
    ops.PadCrop: _Form(_crop),
    ops.Cutout: _Form(_cutout),
    A.CoarseDropout: _Form(_coarse_dropout, _plain_holes),
    ops.Rotate: _Form(_rotate, lambda rotate: not rotate.crop_border),
}


def batch_form(transform: A.BasicTransform | A.BaseCompose) -> BatchForm | None:
    """How to draw and apply a transform for many images at once; None where it has to be one by one."""
    form = TABLE.get(type(transform))
    return form.apply if form and form.fits(transform) else None
