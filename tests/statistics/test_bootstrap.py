"""The bootstrap interval: against the normal approximation, and what is left out."""

import numpy as np
import pytest
from scipy import stats

from augcam.errors import UserError
from augcam.statistics.bootstrap import interval


class TestInterval:
    def test_agrees_with_scipy(self):
        values = np.random.default_rng(0).exponential(size=150)
        found = interval(values, seed=1)
        expected = stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=2000, rng=np.random.default_rng(2)
        ).confidence_interval
        assert found.mean == pytest.approx(values.mean())
        assert found.low == pytest.approx(expected.low, abs=0.02)
        assert found.high == pytest.approx(expected.high, abs=0.02)
        assert found == interval(values, seed=1)

    def test_a_wider_level_gives_a_wider_interval(self):
        values = np.random.default_rng(0).random(50)
        narrow, wide = interval(values, level=0.5), interval(values, level=0.99)
        assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high

    def test_nan_is_left_out_and_nothing_has_no_interval(self):
        assert interval(np.array([np.nan, 2.0, np.nan])) == (2, 2, 2)
        assert np.isnan(interval(np.array([np.nan]))).all()

    def test_many_values_are_resampled_in_blocks(self):
        values = np.random.default_rng(0).standard_normal(30_000)
        low, high = interval(values)[1:]
        # The normal approximation: 2 * 1.96 / sqrt(30000).
        assert high - low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.1)

    @pytest.mark.parametrize("level", [0, 1, 95])
    def test_level_out_of_range(self, level):
        with pytest.raises(UserError, match="between 0 and 1"):
            interval(np.ones(3), level=level)
