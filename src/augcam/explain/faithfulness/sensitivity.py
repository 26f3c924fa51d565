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
from torch import Tensor

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import _RADIUS, Maps, _clean


# ------------------------------------------------------------------------- max-sensitivity
def max_sensitivity(
    explain: Callable[[Tensor], Maps],
    images: Tensor,
    *,
    radius: float = 0.1,
    samples: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """How far a map can move when the image hardly does (Yeh et al., arXiv 1901.09392).

    The largest ||map(image + noise) - map(image)|| / ||map(image)|| over random noise, uniform
    within `radius` of the image in every pixel and channel; Euclidean norms. Lower is better, but
    a map that ignores the image has 0. `explain` must hold the target class fixed, or a change of
    the prediction is measured with it.

    Args:
        explain: images (B, 3, H, W) -> maps (B, h, w).
        images: (B, 3, H, W) normalized.
        radius: in the images' units: .1 is about .025 of the range 0..1 on CIFAR-10.
        samples: draws of noise; more can only raise the maximum.
        seed: of the noise.

    Returns:
        (B,); NaN where the map of the image itself is degenerate.

    Raises:
        UserError: `radius` or `samples` not positive.
    """
    original = {"": _clean(explain(images))}
    found = _max_sensitivities(
        lambda noisy: {"": explain(noisy)}, images, original, radius, samples, seed
    )
    return found[""]


def _max_sensitivities(
    explain: Callable[[Tensor], Mapping[Any, Maps]],
    images: Tensor,
    originals: Mapping[Any, tuple[np.ndarray, np.ndarray]],
    radius: float,
    samples: int,
    seed: int,
) -> dict[Any, np.ndarray]:
    """The same for several maps from one call of `explain`, given those of the images."""
    if not radius > 0 or samples < 1:
        raise UserError(f"radius={radius}, samples={samples}: both must be positive")
    worst = {key: np.zeros(len(images)) for key in originals}
    generator = np.random.default_rng([seed, _RADIUS])
    for _ in range(samples):
        noise = generator.uniform(-radius, radius, tuple(images.shape)).astype(np.float32)
        moved = explain(images + torch.from_numpy(noise).to(images))
        for key, (maps, useless) in originals.items():
            change = np.linalg.norm((_clean(moved[key])[0] - maps).reshape(len(maps), -1), axis=1)
            size = np.linalg.norm(maps.reshape(len(maps), -1), axis=1)
            relative = change / np.where(useless, 1, size)
            worst[key] = np.maximum(worst[key], np.where(useless, np.nan, relative))
    return worst
