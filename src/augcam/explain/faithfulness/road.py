"""ROAD: the score as pixels are replaced by an imputation that leaves no trace of the mask."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import Predict, Stream, stream, target_scores

ROAD_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)

# Offsets (rows, columns) to the half of a pixel's eight neighbours that follow it, and ROAD's
# weights: 1/6 for those that share a side, 1/12 for those that share a corner.
_NEIGHBOURS = (((0, 1), 1 / 6), ((1, -1), 1 / 12), ((1, 0), 1 / 6), ((1, 1), 1 / 12))


class Road(NamedTuple):
    """The target's score as the pixels that one map names are removed, by `road`."""

    morf: np.ndarray
    """(B, fractions) score with the most relevant pixels removed first; lower is better."""
    lerf: np.ndarray
    """(B, fractions) score with the least relevant pixels removed first; higher is better."""
    counts: np.ndarray
    """(fractions,) pixels removed: floor(fraction * N)."""

    @property
    def score(self) -> np.ndarray:
        """(B,) half the gap between the two, averaged over the fractions; higher is better."""
        return (self.lerf - self.morf).mean(1) / 2


def impute(images: Tensor, removed: np.ndarray) -> Tensor:
    """Fill removed pixels by the linear imputation of ROAD (Rong et al., arXiv 2202.00449).

    Each removed pixel becomes the weighted mean of its neighbours (1/6 across a side, 1/12 across
    a corner, renormalised at the image's border), removed neighbours included: one linear system
    per image. No noise is added here.

    Args:
        images: (B, C, H, W) float.
        removed: (B, H, W) bool; at least one pixel of each image stays.

    Returns:
        (B, C, H, W) float32 on the images' device; the pixels that stay are untouched.

    Raises:
        UserError: an image of which nothing stays.
    """
    if removed.reshape(len(removed), -1).all(1).any():
        raise UserError("every pixel of an image is removed: nothing is left to impute from")
    values = images.detach().float().cpu().numpy()
    filled = np.stack([_impute(*pair) for pair in zip(values, removed, strict=True)])
    return torch.from_numpy(filled).to(images.device)


def _impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """One image (C, H, W).

    The system is symmetric and positive definite, and with pixels numbered along the shorter side
    its entries lie within side + 1 of the diagonal: banded Cholesky takes half a millisecond for
    32x32, several times less than a general sparse solver.
    """
    if removed.shape[1] > removed.shape[0]:
        return _impute(image.transpose(0, 2, 1), removed.T).transpose(0, 2, 1)
    channels, height, width = image.shape
    known = np.where(removed, 0.0, image.astype(np.float64))
    band = np.zeros((width + 2, height * width))
    # Row k holds the entries k below the diagonal; known pixels have rows of the identity.
    total_weight = np.zeros(removed.shape)
    right = known.copy()
    for (down, across), weight in _NEIGHBOURS:
        left, stop = max(0, -across), width - max(0, across)
        here = (slice(0, height - down), slice(left, stop))
        there = (slice(down, height), slice(left + across, stop + across))
        total_weight[here] += weight
        total_weight[there] += weight
        coupled = np.zeros(removed.shape)
        coupled[here] = removed[here] & removed[there]
        band[down * width + across] -= weight * coupled.ravel()
        for target, source in ((here, there), (there, here)):
            right[:, *target] += weight * np.where(removed[target], known[:, *source], 0)
    band[0] += np.where(removed, total_weight, 1).ravel()
    solved = solveh_banded(band, right.reshape(channels, -1).T, lower=True, check_finite=False)
    return np.where(removed, solved.T.reshape(image.shape), image).astype(np.float32)


def road(
    predict: Predict,
    images: Tensor,
    ranks: Mapping[Any, np.ndarray],
    targets: Tensor,
    *,
    fractions: Sequence[float] = ROAD_FRACTIONS,
    noise: float = 0.01,
    seed: int = 0,
    batch: int = 128,
) -> dict[Any, Road]:
    """Remove and debias (Rong et al., arXiv 2202.00449): the score as pixels are imputed.

    The imputation of `impute` plus a little noise leaves no trace of *which* pixels went, unlike a
    constant. For each fraction p exactly floor(p * N) pixels go, ties or not.

    Args:
        predict: images -> probabilities or scores (B, classes); called without gradients.
        images: (B, 3, H, W) normalized.
        ranks: for each map by name, (B, H*W) places of the pixels in the order of relevance, 0
            first, as `pixel_ranks` gives them.
        targets: (B,) class indices.
        fractions: of the pixels to remove, each in (0, 1).
        noise: standard deviation added to imputed pixels, in the images' units (the authors' .01).
        seed: of the noise, the same for every map.
        batch: most images in one call of `predict`.

    Returns:
        For each name of `ranks`.

    Raises:
        UserError: a fraction out of range.
    """
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise UserError(f"fractions={tuple(fractions)}: one or more between 0 and 1 are needed")
    height, width = images.shape[2:]
    pixels = height * width
    # 0.29 * 100 is 28.999... in floating point, and means 29 pixels.
    counts = np.array([math.floor(fraction * pixels + 1e-9) for fraction in fractions])
    generator = stream(seed, Stream.NOISE)
    added = torch.from_numpy(
        noise * generator.standard_normal(tuple(images.shape), dtype=np.float32)
    )

    def score(removed: np.ndarray) -> np.ndarray:
        removed = removed.reshape(-1, height, width)

        def perturbed(part: slice) -> Tensor:
            filled = impute(images[part], removed[part])
            hidden = torch.from_numpy(removed[part])[:, None].to(images.device)
            noisy = filled + added[part].to(images.device)
            return torch.where(hidden, noisy.to(images.dtype), images[part])

        return target_scores(predict, perturbed, targets, batch)

    return {
        key: Road(
            morf=np.stack([score(rank < count) for count in counts], axis=1),
            lerf=np.stack([score(rank >= pixels - count) for count in counts], axis=1),
            counts=counts,
        )
        for key, rank in ranks.items()
    }
