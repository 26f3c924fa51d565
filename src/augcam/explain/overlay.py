"""Maps on images: colour map and blending, for whole batches of arrays."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import colormaps

from augcam.errors import UserError


@lru_cache(maxsize=1)
def colour_map() -> np.ndarray:
    """Turbo as (256, 3) uint8, from blue (0) to red (255).

    A blend keeps the photograph's lightness, so heat must be read from hue: maps ordered by
    lightness (viridis, inferno) drown in it. Turbo has jet's hues without its false bands.
    """
    return np.round(colormaps["turbo"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def colourise(heatmaps: np.ndarray) -> np.ndarray:
    """Heat in [0, 1], any shape (...), as colours (..., 3) uint8; clipped, and NaN is 0."""
    return colour_map()[np.round(np.clip(np.nan_to_num(heatmaps), 0, 1) * 255).astype(np.uint8)]


def overlay(
    images: np.ndarray,
    heatmaps: np.ndarray,
    status: str | Sequence[str] = "ok",
    alpha: float = 0.5,
) -> np.ndarray:
    """Heatmaps over images: (1 - alpha) image + alpha colour, the same for every pixel and image.

    The blend is not rescaled, so equal colours mean equal heat in all pictures of a grid. A map
    that says nothing (status other than `ok`) gives its image in grey, without any colour.

    Args:
        images: uint8 (H, W, 3) or (B, H, W, 3), RGB, not normalized.
        heatmaps: (H, W) or (B, H, W), in [0, 1].
        status: of `augcam.explain.cam`, one word for all or one per image.
        alpha: weight of the colour, in [0, 1].

    Returns:
        uint8, shape of `images`.

    Raises:
        UserError: images not uint8, or shapes that do not fit each other.
    """
    images, heatmaps = np.asarray(images), np.asarray(heatmaps)
    if images.dtype != np.uint8:
        raise UserError(f"Images must be uint8 (0 to 255), not {images.dtype}.")
    if images.shape != (*heatmaps.shape, 3) or images.ndim not in (3, 4):
        raise UserError(f"Images {images.shape} and heatmaps {heatmaps.shape} do not fit.")
    is_ok = np.asarray(status) == "ok"
    if is_ok.shape not in ((), images.shape[:-3]):
        raise UserError(f"{is_ok.size} statuses for images {images.shape}.")
    # float32: a uint8 sum would wrap.
    blend = (1 - alpha) * images.astype(np.float32) + alpha * colourise(heatmaps)
    # ITU-R BT.601 luma.
    grey = (images @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    chosen = np.where(np.broadcast_to(is_ok, images.shape[:-3])[..., None, None, None], blend, grey)
    return np.round(chosen).astype(np.uint8)
