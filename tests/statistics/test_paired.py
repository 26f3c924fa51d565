"""Paired comparisons: against SciPy, against counting by hand, and their error rate."""

import itertools

import numpy as np
import pytest
from scipy import stats

from augcam.statistics.families import holm
from augcam.statistics.paired import sign_flip_test


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_equals_scipy_s_permutation_test(alternative):
    differences = np.random.default_rng(0).normal(0.25, 1, size=(60, 3))
    found = sign_flip_test(differences, alternative)
    for column, p in zip(differences.T, found, strict=True):
        expected = stats.permutation_test(
            (column,), np.mean, permutation_type="samples", alternative=alternative,
            n_resamples=9999, rng=np.random.default_rng(1),
        ).pvalue  # fmt: skip
        assert p == pytest.approx(expected, abs=0.012)


def test_few_images_by_counting_all_signs():
    differences = np.array([3.0, 1, 1, -1, 2])
    sums = [np.dot(signs, differences) for signs in itertools.product((-1, 1), repeat=5)]
    exact = np.mean([total >= differences.sum() - 1e-9 for total in sums])
    assert sign_flip_test(differences[:, None], "greater")[0] == pytest.approx(exact, abs=0.015)


def test_a_missing_pair_leaves_the_image_out():
    differences = np.random.default_rng(0).normal(0.3, 1, size=(30, 1))
    with_gaps = np.concatenate([differences, np.full((5, 1), np.nan)])
    found = sign_flip_test(with_gaps), sign_flip_test(differences)
    assert found[0] == pytest.approx(found[1], abs=0.015)


def test_no_difference_and_no_images_say_nothing():
    assert sign_flip_test(np.zeros((20, 1))).tolist() == [1]
    assert sign_flip_test(np.full((20, 1), np.nan)).tolist() == [1]


def test_never_zero_and_in_blocks_the_same_kind_of_answer():
    assert sign_flip_test(np.ones((2000, 1)))[0] == pytest.approx(1e-4)


def test_null_columns_are_called_different_in_one_family_of_twenty():
    random = np.random.default_rng(3)
    hits = sum(
        (holm(sign_flip_test(random.normal(size=(20, 8)), seed=seed)) <= 0.05).any()
        for seed in range(200)
    )
    # At most .05; 200 families leave it below .095 with 99.9%.
    assert hits / 200 < 0.095
