"""Whether groups lie apart: exact small cases, and the 5% by simulation."""

from itertools import combinations
from math import sqrt

import numpy as np
import pytest

from augcam.statistics.permutation import moved_apart, runs_needed


def squared(points):
    return ((points[:, None] - points[None]) ** 2).sum(-1)


def split(*sizes):
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


def test_two_groups_that_are_wholly_apart_have_the_least_p_there_is():
    points = np.array([0.0, 0.1, 0.2, 0.3, 9.0, 9.1, 9.2, 9.3])[:, None]
    # Of the 70 deals only the observed one and its mirror image part them so.
    assert moved_apart(squared(points)[None], split(4, 4)) == pytest.approx([2 / 70])


def test_p_of_one_measure_is_the_share_of_deals_that_part_them_as_far():
    points = np.random.default_rng(0).normal(size=(8, 3))
    points[4:] += 0.8
    distance = squared(points)

    def apart(one, two):
        within = [np.mean([distance[i, j] for i, j in combinations(g, 2)]) for g in (one, two)]
        return distance[np.ix_(one, two)].mean() - max(within)

    deals = [(list(one), sorted(set(range(8)) - set(one))) for one in combinations(range(8), 4)]
    observed = apart(*deals[0])
    expected = np.mean([apart(*deal) >= observed - 1e-9 for deal in deals])
    assert moved_apart(distance[None], split(4, 4)) == pytest.approx([expected])


def test_the_same_measure_six_times_is_one_measure():
    points = np.random.default_rng(1).normal(size=(8, 3))
    points[4:] += 1
    distance = squared(points)[None]
    one = moved_apart(distance, split(4, 4))
    assert moved_apart(np.repeat(distance, 6, axis=0), split(4, 4)) == pytest.approx(one)


def test_a_measure_that_says_nothing_changes_nothing():
    points = np.random.default_rng(1).normal(size=(8, 3))
    points[4:] += 1
    distance = squared(points)
    both = np.stack([distance, np.zeros((8, 8))])
    assert moved_apart(both, split(4, 4)) == moved_apart(distance[None], split(4, 4))


def test_the_units_of_the_measures_do_not_matter():
    random = np.random.default_rng(3)
    moved, noise = random.normal(size=(2, 8, 3))
    moved[4:] += 1
    both = np.stack([squared(moved), squared(noise)])
    other_units = both * np.array([1, 1000])[:, None, None]
    assert moved_apart(other_units, split(4, 4)) == moved_apart(both, split(4, 4))


def test_five_seeds_are_enough_to_name_the_one_group_of_five_that_moved():
    points = np.random.default_rng(2).normal(size=(25, 30))
    points[10:15] += 3
    p = moved_apart(squared(points)[None], split(5, 5, 5, 5, 5))
    assert p[1] == pytest.approx(4 * 2 / 252)
    assert (p < 0.05).tolist() == [False, True, False, False]


def test_the_runs_needed_are_the_fewest_whose_deals_can_reach_five_per_cent():
    assert [runs_needed(groups) for groups in (1, 2, 6, 7, 23, 24)] == [4, 5, 5, 6, 6, 7]


def test_a_group_that_spreads_wider_does_not_make_the_others_look_apart():
    rng, repetitions = np.random.default_rng(0), 150
    count = 0
    for _ in range(repetitions):
        points = rng.normal(size=(20, 10))
        points[5:10] *= 4
        p = moved_apart(np.stack([squared(points)] * 2), split(5, 5, 5, 5))
        count += bool((p < 0.05).any())
    assert count / repetitions <= 0.05 + 3 * sqrt(0.05 * 0.95 / repetitions)


@pytest.mark.parametrize("spread", [1, 4])
@pytest.mark.parametrize("groups", [2, 5])
def test_groups_that_did_not_move_are_called_moved_on_five_per_cent_of_pages(groups, spread):
    # The last group spreads `spread` times as wide; two measures, the second mostly the first.
    rng, repetitions = np.random.default_rng(spread), 200
    count = 0
    for _ in range(repetitions):
        points = rng.normal(size=(5 * groups, 10))
        points[-5:] *= spread
        other = points + rng.normal(size=points.shape)
        distances = np.stack([squared(points), squared(other)])
        count += bool((moved_apart(distances, split(*[5] * groups)) < 0.05).any())
    assert count / repetitions <= 0.05 + 3 * sqrt(0.05 * 0.95 / repetitions)
