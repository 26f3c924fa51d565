"""Insertion and deletion: the score as the pixels that a map names come and go."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import Predict, target_scores


class InsertionDeletion(NamedTuple):
    """One map's areas under the curves of `insertion_deletion`, and the curves."""

    insertion: np.ndarray
    """(B,) area under the insertion curve; higher is better."""
    deletion: np.ndarray
    """(B,) area under the deletion curve; lower is better."""
    insertion_curve: np.ndarray
    """(B, steps + 1) the target's score from nothing inserted to the whole image."""
    deletion_curve: np.ndarray
    """(B, steps + 1) the target's score from the whole image to nothing left."""
    fractions: np.ndarray
    """(steps + 1,) fraction of the pixels inserted or deleted at each point."""


def blurred(images: Tensor) -> Tensor:
    """The images without their content: a Gaussian blur of an eighth of the shorter side.

    That is 4 pixels at 32x32. RISE blurs 224x224 images with 5 pixels; on so small an image the
    same share of the side would leave objects recognisable.

    Args:
        images: (B, C, H, W) float.

    Returns:
        The same shape, dtype and device; borders are reflected.
    """
    sigma = min(images.shape[2:]) / 8
    smooth = ndimage.gaussian_filter(images.detach().float().cpu().numpy(), (0, 0, sigma, sigma))
    return torch.from_numpy(smooth).to(images)


def insertion_deletion(
    predict: Predict,
    images: Tensor,
    ranks: Mapping[Any, np.ndarray],
    targets: Tensor,
    *,
    steps: int = 10,
    baseline: Tensor | None = None,
    batch: int = 128,
) -> dict[Any, InsertionDeletion]:
    """Insertion and deletion of RISE (Petsiuk et al., arXiv 1806.07421).

    Deletion sets the pixels to the mean of the data, most important first; insertion starts from
    a baseline and puts them back in the same order. The area under the target's score is taken by
    trapezoids over the fraction of pixels. An additive model on pixels .4, .3, .2, .1 in four
    steps scores 1, .6, .3, .1, 0 under deletion, an area of .375, and .625 under insertion from 0.

    Args:
        predict: images -> probabilities or scores (B, classes); called without gradients.
        images: (B, 3, H, W) normalized, so that 0 is the mean of the data.
        ranks: for each map by name, (B, H*W) places of the pixels in the order of importance, 0
            first, as `pixel_ranks` gives them.
        targets: (B,) class indices.
        steps: intervals of the curves, 1..H*W, each of H*W / steps pixels (rounded).
        baseline: (B, 3, H, W) where insertion starts; None for `blurred(images)`.
        batch: most images in one call of `predict`.

    Returns:
        For each name of `ranks`; the ends of the curves, which no map changes, are computed once.

    Raises:
        UserError: a baseline of another shape, or `steps` out of range.
    """
    height, width = images.shape[2:]
    pixels = height * width
    if not 1 <= steps <= pixels:
        raise UserError(f"steps={steps}: 1 to {pixels} (one per pixel) are possible")
    start = blurred(images) if baseline is None else baseline
    if start.shape != images.shape:
        raise UserError(
            f"the baseline has the shape {tuple(start.shape)}; "
            f"that of the images, {tuple(images.shape)}, is needed"
        )
    empty = torch.zeros_like(images)
    counts = np.round(np.linspace(0, pixels, steps + 1)).astype(int)
    fractions = counts / pixels
    whole_score = target_scores(predict, lambda part: images[part], targets, batch)
    empty_score = target_scores(predict, lambda part: empty[part], targets, batch)
    start_score = target_scores(predict, lambda part: start[part], targets, batch)

    def curve(rank: Tensor, above: Tensor, below: Tensor) -> list[np.ndarray]:
        """Scores with the `count` most important pixels from `above` and the rest from `below`."""

        def mixed(count: int) -> Callable[[slice], Tensor]:
            return lambda part: torch.where(
                rank[part].to(images.device) < count, above[part], below[part]
            )

        return [target_scores(predict, mixed(int(count)), targets, batch) for count in counts[1:-1]]

    found = {}
    for key, places in ranks.items():
        rank = torch.from_numpy(places).view(-1, 1, height, width)
        inserted = np.stack([start_score, *curve(rank, images, start), whole_score], axis=1)
        deleted = np.stack([whole_score, *curve(rank, empty, images), empty_score], axis=1)
        found[key] = InsertionDeletion(
            insertion=np.trapezoid(inserted, fractions, axis=1),
            deletion=np.trapezoid(deleted, fractions, axis=1),
            insertion_curve=inserted,
            deletion_curve=deleted,
            fractions=fractions,
        )
    return found
