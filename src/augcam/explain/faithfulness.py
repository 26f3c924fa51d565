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

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.linalg import solveh_banded
from scipy.stats import rankdata
from torch import Tensor, nn

from augcam.errors import UserError

Maps = Tensor | np.ndarray
Predict = Callable[[Tensor], Tensor]
# (network, images (B, 3, H, W), targets (B,)) -> maps (B, h, w) by name: a layer's, usually.
Explain = Callable[[nn.Module, Tensor, Tensor], Mapping[Any, Maps]]
# (work done, work in all), in images through the network; called after each batch.
Progress = Callable[[int, int], None]

CHECKS = (
    "concentration",
    "localisation",
    "insertion_deletion",
    "road",
    "max_sensitivity",
    "sanity",
)
# Which end of each measure speaks for a map. Concentration speaks neither for nor against one.
BETTER = {
    "localisation_pointing": "higher",
    "localisation_energy": "higher",
    "insertion": "higher",
    "deletion": "lower",
    "road": "higher",
    "road_morf": "lower",
    "road_lerf": "higher",
    "max_sensitivity": "lower",
    "sanity_spearman": "lower",
    "sanity_ssim": "lower",
}
ROAD_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
_RESAMPLES = 2000
# A forward pass and a backward pass to the earliest layer, in forward passes: for progress alone.
_EXPLAIN_COST = 3
# Offsets (rows, columns) to the half of a pixel's eight neighbours that follow it, and ROAD's
# weights: 1/6 for those that share a side, 1/12 for those that share a corner.
_NEIGHBOURS = (((0, 1), 1 / 6), ((1, -1), 1 / 12), ((1, 0), 1 / 6), ((1, 1), 1 / 12))
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


# ------------------------------------------------------------------- insertion and deletion


class InsertionDeletion(NamedTuple):
    """Areas under the curves of `insertion_deletion`, and the curves."""

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
    maps: Maps,
    targets: Tensor,
    *,
    steps: int = 10,
    baseline: Tensor | None = None,
    seed: int = 0,
    batch: int = 128,
) -> InsertionDeletion:
    """Insertion and deletion of RISE (Petsiuk et al., arXiv 1806.07421).

    Deletion sets the pixels to the mean of the data, most important first; insertion starts from
    a baseline and puts them back in the same order. The area under the target's score is taken by
    trapezoids over the fraction of pixels. An additive model on pixels .4, .3, .2, .1 in four
    steps scores 1, .6, .3, .1, 0 under deletion, an area of .375, and .625 under insertion from 0.

    Args:
        predict: images -> probabilities or scores (B, classes); called without gradients.
        images: (B, 3, H, W) normalised, so that 0 is the mean of the data.
        maps: (B, H, W), higher is more important.
        targets: (B,) class indices.
        steps: intervals of the curves, 1..H*W, each of H*W / steps pixels (rounded).
        baseline: (B, 3, H, W) where insertion starts; None for `blurred(images)`.
        seed: of the order of equal values.
        batch: most images in one call of `predict`.

    Raises:
        UserError: shapes that do not fit, or `steps` out of range.
    """
    _check_images(images, targets)
    ranks = {"": _ranks_for(images, maps, seed)}
    return _insertions_deletions(predict, images, ranks, targets, steps, baseline, batch)[""]


def _insertions_deletions(
    predict: Predict,
    images: Tensor,
    ranks: Mapping[Any, np.ndarray],
    targets: Tensor,
    steps: int,
    baseline: Tensor | None,
    batch: int,
) -> dict[Any, InsertionDeletion]:
    """The same for several maps of each image; the curves' ends do not depend on the map."""
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
    whole_score = _scores(predict, lambda part: images[part], targets, batch)
    empty_score = _scores(predict, lambda part: empty[part], targets, batch)
    start_score = _scores(predict, lambda part: start[part], targets, batch)

    def curve(rank: Tensor, above: Tensor, below: Tensor) -> list[np.ndarray]:
        """Scores with the `count` most important pixels from `above` and the rest from `below`."""

        def mixed(count: int) -> Callable[[slice], Tensor]:
            return lambda part: torch.where(
                rank[part].to(images.device) < count, above[part], below[part]
            )

        return [_scores(predict, mixed(int(count)), targets, batch) for count in counts[1:-1]]

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


# ------------------------------------------------------------------------------------ ROAD


class Road(NamedTuple):
    """The target's score as pixels are removed, by `road`."""

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
    maps: Maps,
    targets: Tensor,
    *,
    fractions: Sequence[float] = ROAD_FRACTIONS,
    noise: float = 0.01,
    seed: int = 0,
    batch: int = 128,
) -> Road:
    """Remove and debias (Rong et al., arXiv 2202.00449): the score as pixels are imputed.

    The imputation of `impute` plus a little noise leaves no trace of *which* pixels went, unlike a
    constant. For each fraction p exactly floor(p * N) pixels go, ties or not.

    Args:
        predict: images -> probabilities or scores (B, classes); called without gradients.
        images: (B, 3, H, W) normalised.
        maps: (B, H, W), higher is more relevant.
        targets: (B,) class indices.
        fractions: of the pixels to remove, each in (0, 1).
        noise: standard deviation added to imputed pixels, in the images' units (the authors' .01).
        seed: of the noise and of the order of equal values.
        batch: most images in one call of `predict`.

    Raises:
        UserError: shapes that do not fit, or a fraction out of range.
    """
    _check_images(images, targets)
    ranks = {"": _ranks_for(images, maps, seed)}
    return _roads(predict, images, ranks, targets, fractions, noise, seed, batch)[""]


def _roads(
    predict: Predict,
    images: Tensor,
    ranks: Mapping[Any, np.ndarray],
    targets: Tensor,
    fractions: Sequence[float],
    noise: float,
    seed: int,
    batch: int,
) -> dict[Any, Road]:
    """The same for several maps of each image."""
    if not fractions or not all(0 < fraction < 1 for fraction in fractions):
        raise UserError(f"fractions={tuple(fractions)}: one or more between 0 and 1 are needed")
    height, width = images.shape[2:]
    pixels = height * width
    # 0.29 * 100 is 28.999... in floating point, and means 29 pixels.
    counts = np.array([math.floor(fraction * pixels + 1e-9) for fraction in fractions])
    generator = np.random.default_rng([seed, _NOISE])
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

        return _scores(predict, perturbed, targets, batch)

    return {
        key: Road(
            morf=np.stack([score(rank < count) for count in counts], axis=1),
            lerf=np.stack([score(rank >= pixels - count) for count in counts], axis=1),
            counts=counts,
        )
        for key, rank in ranks.items()
    }


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
        images: (B, 3, H, W) normalised.
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


# ------------------------------------------------------- sanity: cascading randomisation


class Similarity(NamedTuple):
    """How alike two maps of each image are; NaN where either is degenerate."""

    spearman: np.ndarray
    """Rank correlation, -1..1."""
    ssim: np.ndarray
    """Structural similarity, -1..1."""


class Cascade(NamedTuple):
    """What `cascading_randomisation` found."""

    stages: tuple[str, ...]
    """The layers in the order of their randomisation; those before a stage stay random."""
    similarity: dict[Any, Similarity]
    """For each name that `explain` returned: arrays (stages, B)."""


def similarity(first: Maps, second: Maps) -> Similarity:
    """Spearman's rank correlation and SSIM (Wang et al., 2004) of two sets of maps (B, h, w).

    SSIM compares maps scaled to 0..1 each, in a uniform window of 7 pixels or the largest odd size
    that fits the map, without the border that a whole window cannot reach.

    Returns:
        Two arrays (B,).

    Raises:
        UserError: two shapes.
    """
    one, one_useless = _clean(first)
    two, two_useless = _clean(second)
    if one.shape != two.shape:
        raise UserError(f"maps of the shapes {one.shape} and {two.shape} cannot be compared")
    undefined = one_useless | two_useless
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (one, two)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    spearman = (centred[0] * centred[1]).sum(1) / np.where(undefined, 1, spread)
    structure = _ssim(_unit_range(one), _unit_range(two))
    return Similarity(np.where(undefined, np.nan, spearman), np.where(undefined, np.nan, structure))


def _unit_range(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def _ssim(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    shorter = min(one.shape[1:])
    window = min(7, shorter if shorter % 2 else max(1, shorter - 1))

    def local_mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, (1, window, window))

    # The unbiased estimate of the (co)variances, as in the paper's own code and in scikit-image;
    # a window of one pixel has no variance to correct.
    correction = window**2 / max(1, window**2 - 1)
    mean_one, mean_two = local_mean(one), local_mean(two)
    variance_one = correction * (local_mean(one * one) - mean_one**2)
    variance_two = correction * (local_mean(two * two) - mean_two**2)
    covariance = correction * (local_mean(one * two) - mean_one * mean_two)
    small_mean, small_variance = 0.01**2, 0.03**2
    values = (
        (2 * mean_one * mean_two + small_mean)
        * (2 * covariance + small_variance)
        / (mean_one**2 + mean_two**2 + small_mean)
        / (variance_one + variance_two + small_variance)
    )
    edge = window // 2
    height, width = one.shape[1:]
    return values[:, edge : height - edge, edge : width - edge].mean((1, 2))


def cascading_randomisation(
    model: nn.Module,
    explain: Explain,
    images: Tensor,
    targets: Tensor,
    *,
    seed: int = 0,
) -> Cascade:
    """The sanity check of Adebayo et al. (arXiv 1810.03292): does the map show what was learnt?

    The model's children are initialised afresh one after the other, from the last (the head) to
    the first, and the map after each is compared with the trained network's. A map that hardly
    changes shows the image, not the network. The model itself is not touched: a copy is.

    Args:
        model: its children in the order data passes through them, as in torchvision's ResNet.
            Batch norm starts afresh with its running statistics; parameters that the model holds
            itself, outside its children, stay.
        explain: maps by name; given the randomised copy, it must not reach for another network.
        images: (B, 3, H, W) normalised.
        targets: (B,) class indices, held fixed.
        seed: of the new weights.

    Raises:
        UserError: a model without children that have parameters.
    """
    _check_images(images, targets)
    originals = explain(model, images, targets)
    return _cascade(model, lambda network: explain(network, images, targets), originals, seed)


def _cascade(
    model: nn.Module,
    explain: Callable[[nn.Module], Mapping[Any, Maps]],
    originals: Mapping[Any, Maps],
    seed: int,
) -> Cascade:
    stages = _stages(model)
    network = copy.deepcopy(model)
    found: dict[Any, list[Similarity]] = {key: [] for key in originals}
    for number, stage in enumerate(stages):
        _randomise(network.get_submodule(stage), seed * len(stages) + number)
        for key, maps in explain(network).items():
            found[key].append(similarity(originals[key], maps))
    return Cascade(
        stages,
        {
            key: Similarity(
                np.stack([one.spearman for one in several]), np.stack([one.ssim for one in several])
            )
            for key, several in found.items()
        },
    )


def _stages(model: nn.Module) -> tuple[str, ...]:
    stages = [
        name for name, child in model.named_children() if any(True for _ in child.parameters())
    ]
    if not stages:
        raise UserError(f"{type(model).__name__} has no layers with parameters to randomise")
    return tuple(reversed(stages))


def _randomise(layer: nn.Module, seed: int) -> None:
    """Initialise a layer afresh, leaving the global random state as it was."""
    with torch.no_grad(), torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for module in layer.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                # No initialisation of its own is known: keep the scale, lose the content.
                parameter.normal_(0, float(parameter.square().mean().sqrt()))


# --------------------------------------------------------------------------- localisation


def pointing_game(maps: Maps, masks: Maps) -> np.ndarray:
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


def energy_share(maps: Maps, masks: Maps) -> np.ndarray:
    """The share of the map's positive mass on the object (Wang et al., arXiv 1910.01279).

    Negative values count as 0; a map without any positive value is taken as spread evenly.
    Arguments, result and errors as for `pointing_game`.
    """
    values, inside = _maps_and_masks(maps, masks)
    values = values.clip(min=0)
    values[~values.any((1, 2))] = 1
    return np.where(inside, values, 0).sum((1, 2)) / values.sum((1, 2))


def _maps_and_masks(maps: Maps, masks: Maps) -> tuple[np.ndarray, np.ndarray]:
    values, _ = _clean(maps)
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
    if len(classes) < 4 or count < 1:
        raise UserError(
            f"{count} mosaics of {len(classes)} classes: at least 1 and at least 4 are needed"
        )
    generator = np.random.default_rng([seed, _MOSAIC])
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


# --------------------------------------------------- concentration, baselines, intervals


def concentration(maps: Maps) -> np.ndarray:
    """How few pixels hold the positive mass: the Gini index (Hurley, Rickard, arXiv 0811.4706).

    Scaled by N / (N - 1) so that all mass on one pixel is exactly 1. Negative values count as 0;
    a degenerate map, and one without any positive value, is even: 0.

    Args:
        maps: (B, h, w).

    Returns:
        (B,) in 0..1: 0 for mass spread evenly, 1 for a single pixel.
    """
    values, _ = _clean(maps)
    mass = np.sort(values.reshape(len(values), -1).clip(min=0), axis=1)
    pixels = mass.shape[1]
    # The mean absolute difference over all pairs of pixels, written for sorted values.
    weights = 2 * np.arange(1, pixels + 1) - pixels - 1
    total = mass.sum(1)
    gini = (mass * weights).sum(1) / (np.where(total > 0, total, 1) * max(1, pixels - 1))
    return gini.clip(0, 1)


def baselines(images: Tensor, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps that know nothing of the network: what a measure gives for free.

    Args:
        images: (B, C, H, W) float.
        seed: of the random map.

    Returns:
        (B, H, W) float32 in 0..1 each: `random` (uniform, independent pixels), `centre` (a Gaussian
        about the middle, standard deviation a quarter of each side) and `edge` (magnitude of the
        Sobel gradient of the channels' mean, scaled by its maximum in the image).
    """
    count, _, height, width = images.shape
    generator = np.random.default_rng([seed, _RANDOM_MAP])
    # Distances from the middle in standard deviations; the middle lies between pixels if even.
    rows = (np.arange(height) - (height - 1) / 2) / (height / 4)
    columns = (np.arange(width) - (width - 1) / 2) / (width / 4)
    centre = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / 2).astype(np.float32)
    grey = images.detach().float().mean(1).cpu().numpy()
    # One image at a time: `sobel` smooths along every other axis, the batch included.
    edge = np.stack([np.hypot(ndimage.sobel(one, 0), ndimage.sobel(one, 1)) for one in grey])
    peak = edge.max((1, 2), keepdims=True)
    return {
        "random": generator.random((count, height, width), dtype=np.float32),
        "centre": np.repeat(centre[None], count, axis=0),
        "edge": edge / np.where(peak > 0, peak, 1),
    }


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean over images and its percentile bootstrap interval (Efron, 1979; 2,000 resamples).

    Args:
        values: (B,); NaN is left out.
        seed: of the resamples; the same for equally many values, so differences stay paired.
        level: of confidence, in (0, 1).

    Returns:
        The mean and the interval's ends; all NaN if no value is left.

    Raises:
        UserError: `level` out of range.
    """
    if not 0 < level < 1:
        raise UserError(f"level={level}: a confidence between 0 and 1 is needed, such as .95")
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[~np.isnan(finite)]
    if not len(finite):
        return Interval(math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    # In blocks of about a million draws: all at once, 10,000 images would take 320 MB.
    block = min(_RESAMPLES, max(1, 1_000_000 // len(finite)))
    means = np.concatenate(
        [
            finite[generator.integers(len(finite), size=(block, len(finite)))].mean(1)
            for _ in range(0, _RESAMPLES, block)
        ]
    )
    low, high = np.quantile(means[:_RESAMPLES], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(finite.mean()), float(low), float(high))


# ------------------------------------------------------------------------------ the table


def evaluate(
    model: nn.Module,
    predict: Predict,
    explainers: Mapping[str, Explain],
    images: Tensor,
    targets: Tensor,
    *,
    masks: Maps | None = None,
    checks: Sequence[str] | None = None,
    steps: int = 10,
    fractions: Sequence[float] = ROAD_FRACTIONS,
    radius: float = 0.1,
    samples: int = 5,
    seed: int = 0,
    batch: int = 128,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Every measure for every method and layer and for the baselines, as rows of a table.

    With B images, M methods, K maps of each image (methods x layers, and three baselines) and L
    children of the model, the network sees B times: M explanations for the maps, 3 + 2K (steps - 1)
    images for insertion and deletion, 2K images per ROAD fraction, M explanations per sample of
    max-sensitivity and M L for sanity. 200 images, 4 methods, 4 layers and the defaults: 69,000
    and 38,000 images, 4,000 and 5,600 explanations: 23 minutes at 100 images a second. Insertion
    and deletion set the bill: turn `steps` first, or give fewer images. Maps and ranks take about
    20 K bytes per pixel of each image: 80 MB there.

    Args:
        model: the network that the explainers explain; not modified.
        predict: images -> probabilities or scores (B, classes) of that network.
        explainers: method -> function of (network, images, targets) that returns, for each layer,
            maps (B, h, w), higher is more important, of the layer's own size or the image's.
            Measures of pixels see them at the image's size, enlarged bilinearly; max-sensitivity,
            sanity and concentration as they came. Methods must explain the network they are given.
        images: (B, 3, H, W) normalised. For mosaics: these, with `checks=("localisation",)`.
        targets: (B,) class indices.
        masks: (B, H, W) bool, for localisation.
        checks: some of `CHECKS`; None for all, localisation only if there are masks.
        steps: of insertion and deletion.
        fractions: of ROAD.
        radius: of max-sensitivity.
        samples: of max-sensitivity.
        seed: of everything random; two calls agree to the bit.
        batch: most images in one call of `predict` or of an explainer.
        progress: called after each batch with the work done and in all, in images through the
            network (an explanation counts as three).

    Returns:
        One row per method, layer and measure, the baselines last (`layer` is empty): `method`,
        `layer`, `measure`, `mean`, `low`, `high` (the 95% interval over images), `n` (images with
        a value), `degenerate` (maps that say nothing), and `over_random`, `over_random_low`,
        `over_random_high`: the mean difference to the random map *on the same images* and its
        interval. Images differ more than maps do, so this is what tells a map from chance.
        `BETTER` names the good end. `sanity_*` is with all layers random, `sanity_*/<layer>` with
        those from the head down to that one.

    Raises:
        UserError: an unknown check, no explainer, localisation without masks, shapes that do not
            fit, or a number out of range.
    """
    _check_images(images, targets)
    chosen = _chosen_checks(checks, masks)
    if not explainers:
        raise UserError("no explainers were given: one method at least is needed")
    height, width = images.shape[2:]
    work = _Work(progress)

    def explain(network: nn.Module, inputs: Tensor, baseline_seed: int) -> dict[Any, Maps]:
        """All maps of all images: (method, layer) -> (B, h, w)."""
        parts: dict[Any, list[np.ndarray]] = {}
        for method, explainer in explainers.items():
            for start in range(0, len(inputs), batch):
                part = slice(start, start + batch)
                for layer, maps in explainer(network, inputs[part], targets[part]).items():
                    parts.setdefault((method, layer), []).append(_compact(maps))
                work.add(_EXPLAIN_COST * len(inputs[part]))
        found: dict[Any, Maps] = {key: np.concatenate(several) for key, several in parts.items()}
        for name, maps in baselines(inputs, baseline_seed).items():
            found[name, ""] = maps
        return found

    def counted_predict(inputs: Tensor) -> Tensor:
        scores = predict(inputs)
        work.add(len(inputs))
        return scores

    # The random map is drawn anew for each explanation: it would be perfectly stable otherwise.
    baseline_seeds = itertools.count(seed * 1000)
    originals = {
        key: _clean(maps) for key, maps in explain(model, images, next(baseline_seeds)).items()
    }
    work.expect(
        len(images)
        * _cost(chosen, len(explainers), len(originals), model, steps, len(fractions), samples)
    )
    values: dict[Any, dict[str, np.ndarray]] = {key: {} for key in originals}
    if "concentration" in chosen:
        for key, (maps, _) in originals.items():
            values[key]["concentration"] = concentration(maps)
    full_size = {key: _resized(maps, height, width) for key, (maps, _) in originals.items()}
    if "localisation" in chosen and masks is not None:
        for key, maps in full_size.items():
            values[key]["localisation_pointing"] = pointing_game(maps, masks)
            values[key]["localisation_energy"] = energy_share(maps, masks)
    ranks = {key: _ranks(maps, seed) for key, maps in full_size.items()}
    del full_size
    if "insertion_deletion" in chosen:
        areas = _insertions_deletions(counted_predict, images, ranks, targets, steps, None, batch)
        for key, area in areas.items():
            values[key] |= {"insertion": area.insertion, "deletion": area.deletion}
    if "road" in chosen:
        roads = _roads(counted_predict, images, ranks, targets, fractions, 0.01, seed, batch)
        for key, scores in roads.items():
            values[key] |= {
                "road": scores.score,
                "road_morf": scores.morf.mean(1),
                "road_lerf": scores.lerf.mean(1),
            }
    if "max_sensitivity" in chosen:
        moved = _max_sensitivities(
            lambda noisy: explain(model, noisy, next(baseline_seeds)),
            images,
            originals,
            radius,
            samples,
            seed,
        )
        for key, worst in moved.items():
            values[key]["max_sensitivity"] = worst
    if "sanity" in chosen:
        cascade = _cascade(
            model,
            lambda network: explain(network, images, next(baseline_seeds)),
            {key: maps for key, (maps, _) in originals.items()},
            seed,
        )
        for key, likeness in cascade.similarity.items():
            values[key] |= {
                "sanity_spearman": likeness.spearman[-1],
                "sanity_ssim": likeness.ssim[-1],
            }
            for number, stage in enumerate(cascade.stages):
                values[key][f"sanity_spearman/{stage}"] = likeness.spearman[number]
                values[key][f"sanity_ssim/{stage}"] = likeness.ssim[number]
    return [
        _row(key, measure, per_image, values["random", ""][measure], originals[key][1], seed)
        for key, measures in values.items()
        for measure, per_image in measures.items()
    ]


class _Work:
    """Counts the images that went through the network, and tells."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.done, self.total = progress, 0, 0

    def expect(self, total: int) -> None:
        self.total = total
        self.add(0)

    def add(self, images: int) -> None:
        self.done += images
        # Silent until the number of maps, and with it the total, is known.
        if self.progress and self.total:
            self.progress(self.done, self.total)


def _chosen_checks(checks: Sequence[str] | None, masks: Maps | None) -> tuple[str, ...]:
    if checks is None:
        return tuple(check for check in CHECKS if masks is not None or check != "localisation")
    unknown = [check for check in checks if check not in CHECKS]
    if unknown:
        raise UserError(f"unknown checks: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    if "localisation" in checks and masks is None:
        raise UserError("localisation needs masks: true where the object is, one for each image")
    return tuple(checks)


def _cost(
    checks: Sequence[str],
    methods: int,
    maps: int,
    model: nn.Module,
    steps: int,
    fractions: int,
    samples: int,
) -> int:
    """Work per image, in images through the network."""
    explanations = 1
    predictions = 0
    if "insertion_deletion" in checks:
        predictions += 3 + 2 * maps * (steps - 1)
    if "road" in checks:
        predictions += 2 * maps * fractions
    if "max_sensitivity" in checks:
        explanations += samples
    if "sanity" in checks:
        explanations += len(_stages(model))
    return predictions + _EXPLAIN_COST * methods * explanations


def _compact(maps: Maps) -> np.ndarray:
    """On the host in float32, detached: what has to be held for every map at once."""
    if isinstance(maps, Tensor):
        maps = maps.detach().float().cpu().numpy()
    return np.asarray(maps, dtype=np.float32)


def _row(
    key: tuple[str, str],
    measure: str,
    values: np.ndarray,
    random_values: np.ndarray,
    useless: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    difference = interval(values - random_values, seed)
    return {
        "method": key[0],
        "layer": key[1],
        "measure": measure,
        **interval(values, seed)._asdict(),
        "n": int((~np.isnan(values)).sum()),
        "degenerate": int(useless.sum()),
        "over_random": difference.mean,
        "over_random_low": difference.low,
        "over_random_high": difference.high,
    }
