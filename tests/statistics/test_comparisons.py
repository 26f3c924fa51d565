"""Two groups of runs: by hand, against scipy, and the 5% by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from augcam.statistics import comparisons
from augcam.statistics.comparisons import (
    Differences,
    Rates,
    difference_of_counts,
    difference_of_means,
    mcnemar,
    unequal_spread,
)
from augcam.statistics.families import benjamini_hochberg


def some_right(accuracies, images=1000, seed=0):
    """Runs (n, images) that are right on images of their own, as many as the accuracies say."""
    rng = np.random.default_rng(seed)
    hits = np.arange(images) < np.round(np.array(accuracies)[:, None] * images)
    return rng.permuted(hits, axis=1)


def compared(group, base):
    return Rates({"group": group, "base": base}).difference("group", "base")


def test_mcnemar_is_the_exact_binomial_test():
    for b, c in ((0, 1), (3, 9), (12, 12), (200, 251), (7, 0)):
        assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert mcnemar(0, 0) == 1


@pytest.fixture
def few_images(monkeypatch):
    """Strata of two images are tested too: as many as can be reckoned by hand."""
    monkeypatch.setattr(comparisons, "LEAST_IMAGES", 2)


def test_a_comparison_by_hand(few_images):
    group = np.array([[1, 1, 1, 0], [1, 1, 0, 1]], bool)
    base = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], bool)
    # Accuracies .75, .75 and .25, .25: no variance between runs. In each group two of four images
    # differ between its two runs: each image's own variance is 1/2 there, 1/4 on average.
    churn = 0.25
    run = churn / 4  # the floor: over N
    shift = np.array([0.5, 1, 0.5, 0])
    images = max(shift.var(ddof=1) - (1 / 2 + 1 / 2) * churn, 0)
    difference = compared(group, base)
    assert difference.mean == [0.5]
    assert difference.run == pytest.approx([run / 2 + run / 2])
    assert difference.images == pytest.approx([images / 4])
    # Two equal variances of one degree of freedom each: Satterthwaite has 2, the least is 1.
    assert difference.df == pytest.approx([1.5])
    t, z = stats.t.ppf(0.975, 1.5), stats.norm.ppf(0.975)
    assert difference.half_width() == pytest.approx([math.sqrt(t**2 * run + z**2 * images / 4)])


def test_the_degrees_of_freedom_lie_between_welchs_and_the_least():
    one, two = [0.80, 0.90, 0.94], [0.70, 0.85, 0.81, 0.9, 0.77]
    welch = stats.ttest_ind(one, two, equal_var=False)
    difference = difference_of_means(one, two)
    # The larger group counts as if it had the smaller one's three runs.
    parts = [np.var(group, ddof=1) / len(group) for group in (one, two)]
    assert difference.df == pytest.approx((2 + 2 * sum(parts) ** 2 / sum(p**2 for p in parts)) / 2)
    assert difference.p == pytest.approx(
        2 * stats.t.sf(abs(welch.statistic), difference.df), rel=1e-4
    )
    assert difference.p > welch.pvalue


def test_p_is_the_level_at_which_the_interval_reaches_zero():
    difference = Differences(*(np.array([v]) for v in (0.02, 3e-5, 3.0, 2e-5)))
    assert difference.half_width(float(difference.p[0])) == pytest.approx([0.02], rel=1e-5)


def test_where_images_are_all_the_noise_it_is_a_paired_test_over_images():
    rng = np.random.default_rng(0)
    one, two = rng.random(2000) < 0.8, rng.random(2000) < 0.83
    difference = compared(np.stack([one, one]), np.stack([two, two]))  # seeds change nothing
    z = abs(stats.ttest_rel(one * 1.0, two * 1.0).statistic)
    assert difference.p == pytest.approx([2 * stats.norm.sf(z)], rel=1e-4)


def test_close_accuracies_by_chance_are_not_no_noise():
    # Two seeds that agree to the image in number, on images of their own: a difference of two images
    # in 1,000 is nothing, though the spread between runs is zero.
    difference = compared(some_right([0.9, 0.9]), some_right([0.902, 0.902], seed=1))
    assert difference.p[0] > 0.5


def test_equal_runs_do_not_differ():
    difference = compared(np.ones((2, 20), bool), np.ones((2, 20), bool))
    assert (difference.mean, difference.half_width(), difference.p) == ([0], [0], [1])


def test_a_stratum_of_few_images_is_not_tested():
    # Every run of one group has the two classes right, none of the other.
    stratum = np.repeat([0, 1], [9, 10])
    hits = {"a": np.ones((3, 19), bool), "b": np.zeros((3, 19), bool)}
    difference = Rates(hits, stratum, 2).difference("a", "b")
    assert difference.mean.tolist() == [1, 1]
    assert np.isnan(difference.p).tolist() == [True, False]
    assert np.isnan(difference.half_width()).tolist() == [True, False]


def test_a_single_run_has_no_spread_of_its_own_and_borrows_none():
    difference = compared(some_right([0.97]), some_right([0.80, 0.82, 0.81], seed=1))
    assert difference.mean == pytest.approx([0.16])
    assert np.isnan([difference.p, difference.half_width()]).all()
    assert math.isnan(difference_of_means([1.0], [2.0, 3.0]).p)


def test_a_stratum_without_images_is_unknown():
    stratum = np.repeat([0, 2], 500)
    rates = Rates({"a": some_right([0.9, 0.8]), "b": some_right([0.7, 0.9], seed=1)}, stratum, 3)
    assert np.isnan(rates.difference("a", "b").p).tolist() == [False, True, False]
    assert np.isnan(rates.rate("a")).tolist() == [False, True, False]


def test_a_departure_by_hand(few_images):
    # Images 0-1 are one stratum, 2-4 the other. The group has both right in the first, one more than
    # the base; in the second both have one of three.
    group = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0]], bool)
    base = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 0, 1]], bool)
    rates = Rates({"group": group, "base": base}, np.array([0, 0, 1, 1, 1]), 2)
    first, second = rates.departure("group", "base").mean
    assert first == pytest.approx(1 / 2 - 0)
    assert second == pytest.approx(-first)  # of two strata each is the other's rest
    departure = rates.departure("group", "base")
    # Between a group's two runs two of the three images outside differ: (0 + 1/2 * 2/3) over 3.
    churn = 1 / 2 * 2 / 3
    assert departure.run == pytest.approx([2 * churn / 3 / 2] * 2)
    # The shift is (0, 1) in the first; (0, 1/2, -1/2) in the second, less what seeds put into it.
    images = 0.5 / 2 + max(0.25 - 2 * churn / 2, 0) / 3
    assert departure.images == pytest.approx([images] * 2)


def test_what_all_strata_share_is_no_departure():
    rng = np.random.default_rng(0)
    base = rng.random((4, 900)) < 0.3
    group = base | (rng.random((4, 900)) < 0.5)  # every image gains alike
    stratum = np.arange(900) % 3
    rates = Rates({"group": group, "base": base}, stratum, 3)
    assert (rates.difference("group", "base").p < 1e-3).all()
    assert (rates.departure("group", "base").p > 0.05).all()
    group[:, stratum == 1] = base[:, stratum == 1]  # but the second is left behind
    left = Rates({"group": group, "base": base}, stratum, 3).departure("group", "base")
    assert left.p[1] < 1e-3
    assert left.mean[1] < 0


def test_one_stratum_has_no_rest_to_depart_from():
    hits = some_right([0.8, 0.9])
    assert np.isnan(Rates({"a": hits, "b": hits}).departure("a", "b").p).all()


def test_bartlett_names_spreads_that_differ():
    assert not unequal_spread([[0.90, 0.91, 0.92], [0.905, 0.91, 0.921]])
    assert unequal_spread([[0.90, 0.9001, 0.9002], [0.7, 0.8, 0.9]])
    assert not unequal_spread([[0.9, 0.9], [0.8], [0.9, 0.1]])  # nothing to compare with


# ------------------------------------------------------------------------------- simulation


def networks(rng, logit, n, std):
    """n networks' right answers; beside each image's own chance a common shift for each network."""
    shifted = logit + rng.normal(0, std, (n, 1))
    return rng.random((n, len(logit))) < 1 / (1 + np.exp(-shifted))


def rate(sizes, stds, *, moved=0.0, better=0.0, images=800, repetitions=600):
    """How often two groups differ at 5%; bench/claims.py explains the model."""
    rng = np.random.default_rng(sum(sizes))
    count = 0
    for _ in range(repetitions):
        p = np.clip(rng.beta(0.68, 0.05, images), 1e-6, 1 - 1e-6)
        logit = np.log(p / (1 - p))
        group, base = (
            networks(rng, logit + shift + moved * rng.standard_normal(images), n, std)
            for n, std, shift in zip(sizes, stds, (better, 0), strict=True)
        )
        count += bool(compared(group, base).p[0] < 0.05)
    return count / repetitions


# Three standard errors of a rate of 5% in 600 repetitions.
MARGIN = 3 * math.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (5, 5), (2, 5), (5, 2)])
@pytest.mark.parametrize(
    ("stds", "moved"),
    [((0.07, 0.07), 0), ((0.5, 0.5), 0), ((0.07, 0.07), 1.5), ((0.6, 0.15), 0)],
    ids=["same networks", "loud seeds", "other images", "four times as wide"],
)
def test_under_no_difference_five_per_cent_are_at_most_five(sizes, stds, moved):
    assert rate(sizes, stds, moved=moved) <= 0.05 + MARGIN


@pytest.mark.parametrize("sizes", [(3, 3), (2, 5)])
def test_with_nothing_apart_a_departure_is_claimed_in_at_most_five_per_cent(sizes):
    rng = np.random.default_rng(7)
    stratum, count = np.arange(600) % 6, 0
    for _ in range(400):
        logit = rng.normal(1.5, 2, 600)
        group, base = (
            networks(rng, logit + better + rng.standard_normal(600), n, 0.3)
            for n, better in zip(sizes, (0.2, 0), strict=True)
        )
        rates = Rates({"group": group, "base": base}, stratum, 6)
        count += int(benjamini_hochberg(rates.departure("group", "base").p).any())
    assert count / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_a_real_difference_is_seen():
    assert rate((3, 3), (0.07, 0.07), better=2.0) > 0.9


def test_counts_of_runs_with_images_of_their_own_by_hand():
    one = np.array([[80, 50], [90, 50], [70, 50]]), np.full((3, 2), 100)
    two = np.array([[60, 0], [65, 0], [61, 0]]), np.full((3, 2), 100)
    difference = difference_of_counts(one, two)
    assert difference.mean == pytest.approx([0.8 - 0.62, 0.5])
    # The first: 80, 90, 70 spread more than coins do; 60, 65, 61 less than so many coins of 62%.
    share = (186 + 0.5) / 301
    coins = share * (1 - share) / 100
    assert coins > np.var([0.60, 0.65, 0.61], ddof=1)
    assert difference.run[0] == pytest.approx((0.1**2 + coins) / 3)
    # The second: no spread at all, but never less than that of coins; and none is never right.
    half, least = 0.25 / 100, 0.5 / 301 * (1 - 0.5 / 301) / 100
    assert difference.run[1] == pytest.approx((half + least) / 3)
    assert (difference.images == 0).all()


def test_counts_of_a_single_run_or_of_no_image_have_no_variance():
    single = np.array([[5, 0]]), np.array([[10, 0]])
    several = np.array([[5, 0], [6, 0]]), np.array([[10, 0], [10, 0]])
    assert np.isnan(difference_of_counts(single, several).p).all()
    assert np.isnan(difference_of_counts(several, several).mean).tolist() == [False, True]


def test_of_counts_without_effect_at_most_five_percent_are_called_different():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(20):
        # 100 strata at a time; the rate itself shifts from run to run.
        hits = rng.binomial(100, np.clip(rng.normal(0.8, 0.05, size=(2, 4, 100)), 0, 1))
        images = np.full((4, 100), 100)
        wrong += int((difference_of_counts((hits[0], images), (hits[1], images)).p < 0.05).sum())
    assert wrong <= 100 + 3 * math.sqrt(2000 * 0.05 * 0.95)
