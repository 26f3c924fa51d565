"""Max-sensitivity: how far a map moves when the image hardly does."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import MapArray, Stream, cleaned, stream


def max_sensitivity(
    explain: Callable[[Tensor], Mapping[Any, MapArray]],
    images: Tensor,
    originals: Mapping[Any, tuple[np.ndarray, np.ndarray]],
    *,
    radius: float = 0.1,
    samples: int = 5,
    seed: int = 0,
) -> dict[Any, np.ndarray]:
    """How far a map can move when the image hardly does (Yeh et al., arXiv 1901.09392).

    The largest ||map(image + noise) - map(image)|| / ||map(image)|| over random noise, uniform
    within `radius` of the image in every pixel and channel; Euclidean norms. Lower is better, but
    a map that ignores the image has 0. `explain` must hold the target class fixed, or a change of
    the prediction is measured with it.

    Args:
        explain: images (B, 3, H, W) -> maps (B, h, w) by name.
        images: (B, 3, H, W) normalized.
        originals: the maps of the images themselves by name, as `cleaned` returns them.
        radius: in the images' units: .1 is about .025 of the range 0..1 on CIFAR-10.
        samples: draws of noise; more can only raise the maximum.
        seed: of the noise.

    Returns:
        For each name of `originals`, (B,); NaN where the map of the image itself is degenerate.

    Raises:
        UserError: `radius` or `samples` not positive.
    """
    if not radius > 0 or samples < 1:
        raise UserError(f"radius={radius}, samples={samples}: both must be positive")
    worst = {key: np.zeros(len(images)) for key in originals}
    generator = stream(seed, Stream.RADIUS)
    for _ in range(samples):
        noise = generator.uniform(-radius, radius, tuple(images.shape)).astype(np.float32)
        moved = explain(images + torch.from_numpy(noise).to(images))
        for key, (maps, useless) in originals.items():
            change = np.linalg.norm((cleaned(moved[key])[0] - maps).reshape(len(maps), -1), axis=1)
            size = np.linalg.norm(maps.reshape(len(maps), -1), axis=1)
            relative = change / np.where(useless, 1, size)
            worst[key] = np.maximum(worst[key], np.where(useless, np.nan, relative))
    return worst
