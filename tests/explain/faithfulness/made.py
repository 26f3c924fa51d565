"""Networks, images and maps whose measures are known by arithmetic."""

import numpy as np
import torch
from torch import Tensor

from augcam.explain.faithfulness.maps import MapArray, cleaned, pixel_ranks


def additive(images: Tensor) -> Tensor:
    """Class 0 scores the sum of the first channel, class 1 its negative."""
    total = images[:, 0].sum((1, 2))
    return torch.stack([total, -total], dim=1)


def recorder(predict=additive):
    """A `predict` that keeps what it was shown."""
    seen: list[Tensor] = []

    def recording(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return predict(images)

    return recording, seen


def pictures(count=3, side=8, seed=0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def sparse_maps(count=2, side=8, filled=4, seed=0) -> np.ndarray:
    """`filled` different positive values per map; every other pixel is 0."""
    generator = np.random.default_rng(seed)
    maps = np.zeros((count, side * side), np.float32)
    for one in maps:
        one[generator.choice(side * side, filled, replace=False)] = np.arange(1, filled + 1)
    return maps.reshape(count, side, side)


def ranked(maps: MapArray, seed=0) -> dict[str, np.ndarray]:
    """The order of the pixels of one map of each image, under the name that results then have."""
    return {"map": pixel_ranks(cleaned(maps)[0], seed)}


TEXTBOOK = torch.tensor([[0.4, 0.3], [0.2, 0.1]]).expand(1, 3, 2, 2)

FIRST = torch.tensor([0])
