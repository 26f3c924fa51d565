"""A mean over runs and its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from augcam.errors import UserError
from augcam.statistics import LEVEL


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
