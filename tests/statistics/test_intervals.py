"""A mean and its interval, against scipy."""

import numpy as np
import pytest
from scipy import stats

from augcam.errors import UserError
from augcam.statistics.intervals import mean_interval


def test_mean_interval_is_students():
    values = [0.91, 0.93, 0.925, 0.94]
    estimate = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert (estimate.mean, estimate.n) == (pytest.approx(0.92625), 4)
    assert estimate.std == pytest.approx(np.std(values, ddof=1))


def test_one_value_has_no_interval():
    one = mean_interval([0.9])
    assert (one.mean, one.low, one.high, one.std, one.n) == (0.9, None, None, None, 1)
    with pytest.raises(UserError):
        mean_interval([])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_has_no_average(value):
    with pytest.raises(UserError, match=f"{value} is among"):
        mean_interval([0.9, value])
