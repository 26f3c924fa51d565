"""Several comparisons on one page: with twenty at 5% each, one would be wrong on most pages.

p values that are NaN were not tested: they stay NaN and count for nothing.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from augcam.statistics import LEVEL


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p: those below 5% hold all at once, in all but 5% of pages, whatever is true.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).

    Args:
        p: (m,), each valid by itself.

    Returns:
        float64 (m,).
    """
    given = np.asarray(p, np.float64)
    adjusted = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    scaled = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def benjamini_hochberg(p: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Which of many p stand: of those that do, at most `level` are expected to be chance.

    Where nothing at all has an effect, the chance that any stands is at most `level` too. Benjamini,
    Hochberg, J. R. Statist. Soc. B 57 (1995).

    Returns:
        bool, shape of p.
    """
    clear = np.zeros(p.shape, bool)
    known = ~np.isnan(p)
    if known.any():
        clear[known] = stats.false_discovery_control(p[known]) <= level
    return clear


def best_of_all(p_against_others: Sequence[float]) -> float:
    """p of "the first is better than every other", the first being the best of this very sample.

    The largest of its two-sided p against each of the others. Choosing the first by the data costs
    nothing more: the chance that the best-looking one passes against *all* of them is largest where
    just two are equal, and there it is 5% (Gutmann, Maymin, "Is the selected population the best?",
    Annals of Statistics 15, 1987). NaN where any comparison lacks its p.
    """
    return float(np.max(p_against_others))
