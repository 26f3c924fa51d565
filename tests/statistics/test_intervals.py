"""Means and their intervals, against scipy."""

import numpy as np
import pytest
from scipy import stats

from augcam.errors import UserError
from augcam.statistics.intervals import bootstrap_interval, mean_interval


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


class TestBootstrapInterval:
    def test_agrees_with_scipy(self):
        values = np.random.default_rng(0).exponential(size=150)
        interval = bootstrap_interval(values, seed=1)
        expected = stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=2000, rng=np.random.default_rng(2)
        ).confidence_interval
        assert interval.mean == pytest.approx(values.mean())
        assert interval.low == pytest.approx(expected.low, abs=0.02)
        assert interval.high == pytest.approx(expected.high, abs=0.02)
        assert interval == bootstrap_interval(values, seed=1)

    def test_a_wider_level_gives_a_wider_interval(self):
        values = np.random.default_rng(0).random(50)
        narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
        assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high

    def test_nan_is_left_out_and_nothing_has_no_interval(self):
        assert bootstrap_interval(np.array([np.nan, 2.0, np.nan])) == (2, 2, 2)
        assert np.isnan(bootstrap_interval(np.array([np.nan]))).all()

    def test_many_values_are_resampled_in_blocks(self):
        values = np.random.default_rng(0).standard_normal(30_000)
        low, high = bootstrap_interval(values)[1:]
        # The normal approximation: 2 * 1.96 / sqrt(30000).
        assert high - low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.1)

    @pytest.mark.parametrize("level", [0, 1, 95])
    def test_level_out_of_range(self, level):
        with pytest.raises(UserError, match="between 0 and 1"):
            bootstrap_interval(np.ones(3), level=level)


def test_two_values_have_an_interval():
    # Of four resamples of 0 and 1, one has the mean 0, two a half, and one 1.
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0.5, 0.0, 1.0)
