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
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.stats import rankdata
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import Explain, Maps, _check_images, _clean


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
        images: (B, 3, H, W) normalized.
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
