"""How far apart networks' maps are, and whether an augmentation moves them beyond its seeds' spread."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from augcam.errors import UserError
from augcam.report.load import Maps, Run
from augcam.statistics.permutation import moved_apart, runs_needed


class Measure(NamedTuple):
    """What is measured between two networks' maps, and which way is further."""

    title: str
    more_is_further: bool


# What `map_distances` measures.
MEASURES = {
    "mean_absolute": Measure("mean absolute difference", True),
    "mean_squared": Measure("mean squared difference", True),
    "pearson": Measure("Pearson correlation", False),
    "spearman": Measure("Spearman correlation", False),
    "overlap": Measure("overlap rate", False),
    "kl": Measure("KL divergence of the predictions (nats)", True),
}


@dataclass(frozen=True)
class MapShifts:
    """The maps of every evaluated group beside the baseline's, by the measures of `map_distances`.

    Attributes:
        baseline_seeds: mean over pairs of the baseline's runs; {} where it has one.
        pairs: how many pairs that is.
        shift: by group, mean over pairs of one of its runs and one of the baseline's.
        within: by group, mean over pairs of its own runs; {} where it has one.
        p: by group, that its runs and the baseline's are exchangeable, by all measures at once and
            adjusted for all groups (`augcam.statistics.permutation.moved_apart`). A group is missing
            where it or the baseline has fewer than `needed` runs.
        needed: runs that a verdict takes, of each.
        other_size: groups with maps of another size than the baseline's, as networks of other strides
            have. Cell by cell they cannot be compared: such runs are left out of all the above.
    """

    baseline_seeds: dict[str, float]
    pairs: int
    shift: dict[str, dict[str, float]]
    within: dict[str, dict[str, float]]
    p: dict[str, float]
    needed: int
    other_size: tuple[str, ...]


def map_distances(first: Maps, second: Maps) -> dict[str, float]:
    """How far apart two networks look on the same images, by the six measures of Dorneles, Garcia and
    Carbonera (arXiv 2505.12581), averaged over images.

    Five compare the heat maps of the true class at the layer's own cells: `mean_absolute` and
    `mean_squared` difference (0..1), `pearson` and `spearman` correlation over cells (-1..1), and
    `overlap`: of the cells that reach half of their map's peak in either map, the share that does in
    both (intersection over union, 0..1; the threshold is ours). They leave out the images where either
    map says nothing (`Maps.usable`). `kl` is the divergence of the predicted probabilities in nats, the
    mean of both ways, over all images; what float16 holds as 0 counts as 1e-7.

    Returns:
        A value for each key of MEASURES (NaN if no image is left), and `left_out`: the share of images
        that the five leave out.

    Raises:
        UserError: other images or another number of cells.
    """
    if first.map_true.shape != second.map_true.shape or (first.index != second.index).any():
        raise UserError(
            f"maps of other images or another layer cannot be compared: {first.map_true.shape} "
            f"and {second.map_true.shape}"
        )
    usable = first.usable & second.usable
    one, two = first.heat[usable], second.heat[usable]
    high_one, high_two = one >= 0.5, two >= 0.5
    p, q = (_probabilities(maps) for maps in (first, second))
    per_image = {
        "mean_absolute": np.abs(one - two).mean(1),
        "mean_squared": ((one - two) ** 2).mean(1),
        # Of ranks, Pearson's is Spearman's. A usable map is never constant.
        "pearson": stats.pearsonr(one, two, axis=1).statistic,
        "spearman": stats.pearsonr(*(m.ranks[usable] for m in (first, second)), axis=1).statistic,
        "overlap": (high_one & high_two).sum(1) / (high_one | high_two).sum(1),
        "kl": (special.rel_entr(p, q) + special.rel_entr(q, p)).sum(1) / 2,
    }
    measured = {key: float(v.mean()) if len(v) else math.nan for key, v in per_image.items()}
    return measured | {"left_out": float(1 - usable.mean())}


def _probabilities(maps: Maps) -> np.ndarray:
    p = np.clip(maps.probabilities.astype(np.float64), 1e-7, None)
    normalized: np.ndarray = p / p.sum(1, keepdims=True)
    return normalized


def map_shifts(groups: Mapping[str, Sequence[Run]], baseline: str | None) -> MapShifts | None:
    """Every group's maps beside the baseline's; runs without maps are left out.

    None without a baseline, or where it or all others have no maps.
    """
    runs = {label: [run for run in several if run.maps] for label, several in groups.items()}
    runs = {label: several for label, several in runs.items() if several}
    if baseline not in runs or len(runs) < 2:
        return None
    assert baseline is not None
    first = runs[baseline][0].maps
    assert first is not None
    size, evaluated = first.map_true.shape, runs
    runs = {
        label: [run for run in several if run.maps and run.maps.map_true.shape == size]
        for label, several in evaluated.items()
    }
    other_size = tuple(label for label in runs if len(runs[label]) < len(evaluated[label]))
    others = [label for label in runs if runs[label] and label != baseline]
    every = [run.maps for label in (baseline, *others) for run in runs[label] if run.maps]
    table = _distance_table(every)
    ends = np.cumsum([0, *(len(runs[label]) for label in (baseline, *others))])
    member = {label: np.arange(ends[i], ends[i + 1]) for i, label in enumerate((baseline, *others))}

    def between(one: np.ndarray, two: np.ndarray) -> dict[str, float]:
        pairs = [(a, b) for a in one for b in two if a != b]
        if not pairs:
            return {}
        a, b = np.array(pairs).T
        return dict(zip(MEASURES, table[:, a, b].mean(1).tolist(), strict=True))

    base = member[baseline]
    needed = runs_needed(len(others))
    enough = [label for label in others if len(member[label]) >= needed <= len(base)]
    p: dict[str, float] = {}
    if enough and np.isfinite(table).all():
        # A correlation or an overlap is nearer where it is more.
        further = np.array([1 if MEASURES[key].more_is_further else -1 for key in MEASURES])
        tested = moved_apart(
            further[:, None, None] * table, [base, *(member[label] for label in enough)]
        )
        p = dict(zip(enough, tested.tolist(), strict=True))
    return MapShifts(
        between(base, base),
        len(base) * (len(base) - 1) // 2,
        {label: between(base, member[label]) for label in others},
        {label: between(member[label], member[label]) for label in others},
        p,
        needed,
        other_size,
    )


def _distance_table(maps: Sequence[Maps]) -> np.ndarray:
    """Every measure between all networks: (measures, R, R), symmetric; the diagonal is 0."""
    table = np.zeros((len(MEASURES), len(maps), len(maps)))
    for i, one in enumerate(maps):
        for j in range(i):
            measured = map_distances(one, maps[j])
            table[:, i, j] = table[:, j, i] = [measured[key] for key in MEASURES]
    return table
