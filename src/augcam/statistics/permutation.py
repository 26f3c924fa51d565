"""Whether groups of networks lie further apart than chance puts them: permutations of run labels.

If an augmentation moves nothing, its runs and the baseline's are exchangeable: any other deal of the
labels was as likely. So the observed separation is compared with those of other deals; nothing is
assumed of how maps are distributed. The price is that the number of deals bounds p: three runs against
three can be dealt in 10 ways that differ, four in 35, five in 126.

Groups are tested two by two and corrected by Holm. Dealing the runs of all groups at once would need
fewer seeds, and calls other groups moved where one spreads wider than the rest.
"""

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import comb

import numpy as np

from augcam.statistics import LEVEL
from augcam.statistics.families import holm

_DEALS = 4999  # beyond so many, a random choice
_LEAST_RUNS = 4
_SEED = 0


def runs_needed(groups: int) -> int:
    """Runs of each group and of the first with which any of so many groups can be called apart.

    4 for one group, 5 for up to 6, 6 for up to 23: two of all deals are as far apart as can be.
    """
    needed = _LEAST_RUNS
    while 2 * groups / comb(2 * needed, needed) >= LEVEL:
        needed += 1
    return needed


def moved_apart(distances: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """p of each group against the first, adjusted so that any p below 5% is wrong on 5% of pages.

    The separation of two groups by a measure is the mean distance between them less the larger of the
    mean distances within them, so that a group that merely spreads wider than the other has not moved.
    A group's statistic is the largest over the measures, each in standard deviations over the deals:
    one test, however many and however correlated measures.

    Args:
        distances: (measures, R, R), symmetric, finite; more is further.
        groups: indices of the runs of each; the first is the baseline. Each at least 2.

    Returns:
        float64 (len(groups) - 1,).
    """
    return holm([_p(distances, groups[0], group) for group in groups[1:]])


def _p(distances: np.ndarray, base: np.ndarray, group: np.ndarray) -> float:
    members = np.concatenate([base, group])
    deals = _deals(len(base), len(group))
    one, two = (deals == 0).astype(np.float64), (deals == 1).astype(np.float64)
    separations = []
    for table in distances[:, members][:, :, members]:
        near, far = one @ table, two @ table
        within = [
            (towards * own).sum(1) / (n * (n - 1))
            for towards, own, n in ((near, one, len(base)), (far, two, len(group)))
        ]
        between = (near * two).sum(1) / (len(base) * len(group))
        separations.append(between - np.maximum(*within))
    by_measure = np.stack(separations, axis=1)
    spread = by_measure.std(0)
    largest = ((by_measure - by_measure.mean(0)) / np.where(spread > 0, spread, 1)).max(1)
    # The first deal is the observed one. Equal ones must not differ by rounding.
    return float((largest >= largest[0] - 1e-9).mean())


@cache
def _deals(base: int, group: int) -> np.ndarray:
    """Which of two groups each run is dealt to, int (deals, runs): the observed deal first."""
    total = base + group
    if comb(total, base) <= _DEALS:
        deals = np.ones((comb(total, base), total), np.int64)
        for deal, first in zip(deals, combinations(range(total), base), strict=True):
            deal[list(first)] = 0
        return deals
    observed = np.repeat([0, 1], [base, group])
    others = np.random.default_rng(_SEED).permuted(np.tile(observed, (_DEALS, 1)), axis=1)
    return np.vstack([observed, others])
