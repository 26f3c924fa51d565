"""Corrections for many comparisons, by hand and by simulation."""

import numpy as np
import pytest
from scipy import stats

from augcam.statistics.families import benjamini_hochberg, best_of_all, holm


def test_holm_by_hand():
    # Sorted .005 x 4, .01 x 3, .03 x 2, .04 x 1: each at least the one before it.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])


def test_what_was_not_tested_counts_for_nothing():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    p = np.array([[0.001, np.nan], [0.2, 0.9]])
    np.testing.assert_array_equal(benjamini_hochberg(p), [[True, False], [False, False]])
    assert np.isnan(best_of_all([0.01, np.nan]))


def test_benjamini_hochberg_by_hand():
    p = np.array([0.001, 0.012, 0.014, 0.06, 0.9])
    # Bars .01, .02, .03, .04, .05: the third is the last below its own, so three stand.
    clear = benjamini_hochberg(p)
    np.testing.assert_array_equal(clear, [True, True, True, False, False])
    assert clear.dtype == bool  # it is an index
    # p that reach their bars, .025 and .05, stand.
    np.testing.assert_array_equal(benjamini_hochberg(np.array([0.05, 0.025])), [True, True])


@pytest.mark.parametrize("equal", [2, 5, 10])
def test_the_best_of_equals_passes_against_all_of_them_on_five_per_cent_of_pages(equal):
    # Gutmann and Maymin: choosing the best by the data costs nothing, if it must beat every other.
    rng = np.random.default_rng(equal)
    means = np.sort(rng.normal(size=(4000, equal)), axis=1)
    p = 2 * stats.norm.sf((means[:, -1:] - means[:, :-1]) / np.sqrt(2))
    rate = np.mean([best_of_all(row) < 0.05 for row in p])
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
