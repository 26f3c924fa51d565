"""A mean and its interval: over runs by Student's t, over images by the bootstrap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from augcam.errors import UserError
from augcam.statistics import LEVEL

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its 95% interval. low, high and std are None for fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    n: int
    std: float | None


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of independent values, and Student's 95% t interval of it.

    Raises:
        UserError: no value, or one that is not finite.
    """
    given = np.asarray(values, np.float64)
    if not len(given):
        raise UserError("no values to average")
    if not np.isfinite(given).all():
        raise UserError(f"{given[~np.isfinite(given)][0]} is among the values: it has no average")
    mean = float(given.mean())
    if len(given) == 1:
        return Estimate(mean, None, None, 1, None)
    std = float(given.std(ddof=1))
    half = float(stats.t.ppf(1 - LEVEL / 2, len(given) - 1)) * std / math.sqrt(len(given))
    return Estimate(mean, mean - half, mean + half, len(given), std)


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean over images and its percentile bootstrap interval (Efron, 1979; 2,000 resamples).

    It says how far the mean of one measure is uncertain. Two intervals are no comparison: for that
    see `augcam.statistics.paired`.

    Args:
        values: (B,); NaN is left out.
        seed: of the resamples; the same for equally many values.
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
    if len(finite) < 2:  # one value has no spread, and none no mean
        one = float(finite[0]) if len(finite) else math.nan
        return Interval(one, one, one)
    ends = stats.bootstrap(
        (finite,),
        np.mean,
        n_resamples=RESAMPLES,
        # In blocks of about a million draws: all at once, 10,000 images would take 320 MB.
        batch=min(RESAMPLES, max(1, 1_000_000 // len(finite))),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(finite.mean()), float(ends.low), float(ends.high))
