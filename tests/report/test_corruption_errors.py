"""Errors under corruption, by hand, and who makes the fewest."""

import math

import numpy as np
import pytest

from augcam.report.corruption_errors import OFFICIAL, corruption_errors, mean_corruption_error
from augcam.statistics.comparisons import difference_of_means
from tests.report.studies import a_run, a_study

# ------------------------------------------------------------------------------- robustness


def evaluated(**corruptions):
    return {"corruptions": corruptions}


def test_mean_corruption_error_by_hand():
    base = evaluated(fog=[0.9, 0.7], blur=[0.8, 0.6], jpeg=[1.0, 1.0])
    ours = evaluated(fog=[0.9, 0.9], blur=[0.7, 0.5], jpeg=[0.9, 0.9])
    # Errors .2 of .4, and .8 of .6; where the baseline never errs there is no ratio.
    assert mean_corruption_error(ours, base) == pytest.approx(100 * (0.5 + 4 / 3) / 2)
    assert mean_corruption_error(base, base) == pytest.approx(100)
    assert math.isnan(mean_corruption_error(evaluated(snow=[0.5]), base))
    assert mean_corruption_error(ours, base, without=("fog",)) == pytest.approx(100 * 4 / 3)


def group(label, *accuracies, shift=None):
    """Runs with these accuracies under fog, and of the same or `shift` under a shifted image."""
    return [
        a_run([1], [1], seed, label, evaluation=evaluated(fog=[a], shift=[shift or a]))
        for seed, a in enumerate(accuracies, 1)
    ]


def test_errors_over_seeds_with_and_without_what_crop_and_rotate_train_on():
    groups = {"none": group("none", 0.7, 0.5), "crop": group("crop", 0.8, 0.6, shift=0.9)}
    errors = corruption_errors(a_study(groups))
    # Errors .2 and .4 against .4 on average; under a shift .1 against .4.
    assert errors.counted["crop"].mean == pytest.approx(75)
    assert errors.all["crop"].mean == pytest.approx((75 + 25) / 2)
    assert (errors.counted["crop"].n, errors.counted["crop"].std) == (
        2,
        pytest.approx(np.std([50, 100], ddof=1)),
    )


def test_fewest_errors_is_for_the_one_that_beats_every_other():
    base = group("none", 0.60, 0.61, 0.59, 0.605)
    close = group("flip", 0.70, 0.71, 0.69, 0.705)
    first = group("crop", 0.71, 0.70, 0.72, 0.705)
    far = group("crop", 0.81, 0.80, 0.82, 0.805)
    tie = corruption_errors(a_study({"none": base, "flip": close, "crop": first}))
    assert (tie.fewest, tie.fewer, tie.more) == (None, ("crop", "flip"), ())
    clear = corruption_errors(a_study({"none": base, "flip": close, "crop": far}))
    assert (clear.fewest, clear.fewer) == ("crop", ("crop", "flip"))


def test_of_two_groups_the_one_comparison_is_not_counted_twice():
    base, flip = (0.60, 0.62, 0.58, 0.61), (0.63, 0.65, 0.62, 0.63)
    assert 0.025 < difference_of_means(flip, base).p < 0.05
    found = corruption_errors(a_study({"none": group("none", *base), "flip": group("flip", *flip)}))
    assert (found.fewer, found.fewest) == (("flip",), "flip")


def test_one_seed_is_not_tested():
    errors = corruption_errors(a_study({"none": group("none", 0.5), "flip": group("flip", 0.9)}))
    assert (errors.tested, errors.fewer, errors.fewest) == (False, (), None)
    assert errors.counted["flip"].mean == pytest.approx(20)


def test_without_an_evaluated_baseline_there_are_no_relative_errors():
    flip = group("flip", 0.9)
    assert corruption_errors(a_study({"none": [a_run([1], [1])], "flip": flip})) is None
    assert corruption_errors(a_study({"flip": flip}, baseline=None)) is None


def on_cifar10c(label, *accuracies, extra=0.5):
    """Runs with these accuracies under CIFAR-10-C's snow, and `extra` under one of its extra ones."""
    return [
        a_run([1], [1], seed, label,
              evaluation=evaluated(fog=[0.5]) | {"cifar10c": evaluated(snow=[a], spatter=[extra])})
        for seed, a in enumerate(accuracies, 1)
    ]  # fmt: skip


def test_the_official_errors_are_apart_and_count_the_papers_fifteen():
    groups = {"none": on_cifar10c("none", 0.7, 0.5), "flip": on_cifar10c("flip", 0.8, 0.6, extra=1)}
    official = corruption_errors(a_study(groups), OFFICIAL)
    # Snow: .2 and .4 of .4 on average; spatter: none of .5.
    assert official.counted["flip"].mean == pytest.approx(75)
    assert official.all["flip"].mean == pytest.approx(75 / 2)
    own = corruption_errors(a_study(groups))
    assert own.counted["flip"].mean == pytest.approx(100)


def test_runs_without_the_official_files_have_no_official_errors():
    groups = {"none": group("none", 0.7, 0.5), "flip": on_cifar10c("flip", 0.8, 0.6)}
    assert corruption_errors(a_study(groups), OFFICIAL) is None
