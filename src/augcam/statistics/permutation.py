"""Whether groups of networks lie further apart than chance puts them: permutations of run labels.

If an augmentation moves nothing, its runs and the baseline's are exchangeable: any other deal of the
labels was as likely. So the observed separation is compared with those of other deals; nothing is
assumed of how maps are distributed. Four runs against four can be dealt in 35 ways that differ, so
that the least p is 0.03; three against three in 10, and no answer could be at 5%.
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import comb

import numpy as np

from augcam.statistics import LEVEL

LEAST_RUNS = 4
"""Of each group: with fewer there is no verdict."""

_DEALS = 999  # beyond so many, a random choice
_EXACT = 500  # up to so many deals of two groups, all of them
_SEED = 0


def moved_apart(distances: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """p of each group against the first, adjusted so that any p below 5% is wrong on 5% of pages.

    The separation of two groups by a measure is the mean distance between them less the larger of the
    mean distances within them, so that a group that merely spreads wider than the other has not moved.
    A group's statistic is the largest over the measures, each in standard deviations over the deals:
    one test, however many and however correlated measures. Groups are combined by stepping down
    (Westfall, Young, "Resampling-based multiple testing", 1993): the labels of all groups are dealt
    anew, and the group with the largest statistic has moved if so large a one is rare; then the same
    among the others, until it is not. A group must also pass by itself against the first.

    Args:
        distances: (measures, R, R), symmetric, finite; more is further.
        groups: indices of the runs of each; the first is the baseline. Each at least 2.

    Returns:
        float64 (len(groups) - 1,). Values from 5% up are lower bounds.
    """
    adjusted = np.zeros(len(groups))
    left, so_far = list(range(1, len(groups))), 0.0
    while left and so_far < LEVEL:
        p, place = _joint_p(distances, [groups[0], *(groups[i] for i in left)])
        so_far = max(so_far, p)
        adjusted[left] = so_far
        largest = left.pop(place)
        if so_far < LEVEL and left:
            alone, _ = _joint_p(distances, [groups[0], groups[largest]])
            adjusted[largest] = max(so_far, alone)
    return adjusted[1:]


def _joint_p(distances: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[float, int]:
    """p that all groups are exchangeable with the first, by the largest of their separations.

    Also which of the others has it.
    """
    members = np.concatenate(groups)
    sizes = tuple(len(group) for group in groups)
    separations = _separations(distances[:, members][:, :, members], _deals(sizes), sizes)
    spread = separations.std(0)
    standard = (separations - separations.mean(0)) / np.where(spread > 0, spread, 1)
    largest = standard.max((1, 2))
    # The first deal is the observed one. Equal ones must not differ by rounding.
    p = float((largest >= largest[0] - 1e-9).mean())
    return p, int(standard[0].max(1).argmax())


@cache
def _deals(sizes: tuple[int, ...]) -> np.ndarray:
    """Group numbers of the runs, int (deals, sum of sizes): the observed deal first, then others."""
    observed = np.repeat(np.arange(len(sizes)), sizes)
    total = len(observed)
    if len(sizes) == 2 and comb(total, sizes[0]) <= _EXACT:
        every = np.ones((comb(total, sizes[0]), total), np.int64)
        for deal, first in zip(every, combinations(range(total), sizes[0]), strict=True):
            deal[list(first)] = 0
        return every
    random = np.random.default_rng(_SEED)
    return np.vstack([observed, random.permuted(np.tile(observed, (_DEALS, 1)), axis=1)])


def _separations(distances: np.ndarray, deals: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Of every group from the first under each deal: (deals, groups - 1, measures)."""
    within, between = [], []
    base: np.ndarray | None = None
    for number, n in enumerate(sizes):
        member = (deals == number).astype(np.float64)
        towards = np.stack([member @ d for d in distances], axis=-1)  # (deals, runs, measures)
        own = np.einsum("pr,prm->pm", member, towards) / (n * (n - 1))
        if base is None:
            base = member
        else:
            between.append(np.einsum("pr,prm->pm", base, towards) / (sizes[0] * n))
        within.append(own)
    return np.stack(
        [b - np.maximum(w, within[0]) for b, w in zip(between, within[1:], strict=True)], axis=1
    )
