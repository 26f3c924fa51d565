"""The sanity check: how much of a map is left when the network's weights are random."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import pearsonr, rankdata
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import MapArray, cleaned


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


def similarity(first: MapArray, second: MapArray) -> Similarity:
    """Spearman's rank correlation and SSIM (Wang et al., 2004) of two sets of maps (B, h, w).

    SSIM compares maps scaled to 0..1 each, in a uniform window of 7 pixels or the largest odd size
    that fits the map, without the border that a whole window cannot reach.

    Returns:
        Two arrays (B,).

    Raises:
        UserError: two shapes.
    """
    one, one_useless = cleaned(first)
    two, two_useless = cleaned(second)
    if one.shape != two.shape:
        raise UserError(f"maps of the shapes {one.shape} and {two.shape} cannot be compared")
    undefined = one_useless | two_useless
    # A correlation of ranks, pair by pair: scipy's own spearmanr takes two maps at a time.
    flat = [maps.reshape(len(maps), -1)[~undefined] for maps in (one, two)]
    spearman, structure = np.full((2, len(one)), np.nan)
    if flat[0].size:
        spearman[~undefined] = pearsonr(*(rankdata(f, axis=1) for f in flat), axis=1).statistic
        structure[~undefined] = _ssim(*(_unit_range(maps[~undefined]) for maps in (one, two)))
    return Similarity(spearman, structure)


def _unit_range(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def _ssim(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    shorter = min(one.shape[1:])
    window = min(7, shorter if shorter % 2 else max(1, shorter - 1))
    _, local = structural_similarity_index_measure(
        torch.from_numpy(one)[:, None],
        torch.from_numpy(two)[:, None],
        gaussian_kernel=False,
        kernel_size=window,
        data_range=1.0,
        return_full_image=True,
        reduction="none",
    )
    edge = window // 2
    height, width = one.shape[1:]
    inner: Tensor = local[:, 0, edge : height - edge, edge : width - edge]
    return inner.mean((1, 2)).numpy()


def cascading_randomisation(
    model: nn.Module,
    explain: Callable[[nn.Module], Mapping[Any, MapArray]],
    originals: Mapping[Any, MapArray],
    untrained: nn.Module,
) -> Cascade:
    """The sanity check of Adebayo et al. (arXiv 1810.03292): does the map show what was learnt?

    The model's children take untrained weights one after the other, from the last (the head) to the
    first, and the map after each is compared with the trained network's. A map that hardly changes
    shows the image, not the network. The model itself is not touched: a copy is.

    Args:
        model: its children in the order data passes through them, as in torchvision's ResNet.
            Parameters that the model holds itself, outside its children, stay.
        explain: network -> maps (B, h, w) by name, of the same images and target classes each time;
            given the randomised copy, it must not reach for another network.
        originals: what `explain` returns for the model as it is.
        untrained: the network as its training started: an initialisation of another scale is another
            question.

    Raises:
        UserError: a model without children that have parameters, or an `untrained` of another
            architecture.
    """
    stages = stages_of(model)
    network = copy.deepcopy(model)
    found: dict[Any, list[Similarity]] = {key: [] for key in originals}
    for stage in stages:
        _copy_weights(untrained, network.get_submodule(stage), stage)
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


def stages_of(model: nn.Module) -> tuple[str, ...]:
    """The children that have parameters, last first.

    Raises:
        UserError: there are none.
    """
    stages = [
        name for name, child in model.named_children() if any(True for _ in child.parameters())
    ]
    if not stages:
        raise UserError(f"{type(model).__name__} has no layers with parameters to randomise")
    return tuple(reversed(stages))


def _copy_weights(untrained: nn.Module, layer: nn.Module, stage: str) -> None:
    try:
        layer.load_state_dict(untrained.get_submodule(stage).state_dict())
    except (AttributeError, RuntimeError):
        raise UserError(
            f"the untrained network is of another architecture: its {stage} does not fit"
        ) from None
