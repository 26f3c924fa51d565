"""Pages on which nothing has an effect: how often the report's own sentences claim one.

bench/claims.py measures it with many more pages; docs/statistics.md has its table.
"""

import dataclasses
import sys
from math import sqrt

import numpy as np
import pytest

from augcam.explain.faithfulness.verdict import praises
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import claims

PAGES = 40

# Three standard errors of a rate of 5%.
MOST = PAGES * (0.05 + 3 * sqrt(0.05 * 0.95 / PAGES))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spreads", [[1, 1, 1, 1, 1], [4, 1, 1, 1, 1], [1, 2, 4, 1, 3]])
def test_a_page_without_effects_claims_one_at_most_as_often_as_it_says(seeds, spreads):
    # Small changes of spread or correction stay inside; a pooled spread, with the baseline's four
    # times as wide, claims a class or a pair on a third of the pages.
    count = claims.count_claims(claims.Design([seeds] * 5, spreads, images=1000), PAGES, seed=seeds)
    assert max(count.values()) <= MOST, count


def test_unequal_numbers_of_seeds_claim_no_more():
    design = claims.Design([2, 5, 5, 5], [4, 1, 1, 1], images=1000)
    count = claims.count_claims(design, PAGES)
    assert max(count.values()) <= MOST, count


@pytest.mark.parametrize(("seeds", "maps"), [(2, 10), (3, 10), (5, 20)])
def test_maps_that_did_not_move_are_not_said_to_have_moved(seeds, maps):
    design = claims.Design([seeds] * 3, [1, 1, 4], images=200, maps=maps)
    count = claims.count_claims(design, PAGES)
    assert count["moved further"] <= (MOST if seeds >= 4 else 0)


def test_maps_that_know_nothing_are_praised_at_most_as_often_as_it_says():
    rng = np.random.default_rng(0)
    rivals = "random", "centre", "edge"
    hits = sum(praises(claims.noise_maps(100, rivals, rng), page) for page in range(PAGES))
    assert hits <= MOST
    # One that does point is praised: what is counted can be seen at all.
    maps = claims.noise_maps(100, rivals, rng)
    maps[0] = dataclasses.replace(maps[0], values=maps[0].values + 0.5)
    assert praises(maps)


def test_true_effects_are_claimed():
    design = claims.Design(
        [5] * 4, [1] * 4, images=4000, run_std=0.07, maps=20,
        better=2.0, class_better=4.0, maps_moved=0.7, sturdier=20.0,
    )  # fmt: skip
    count = claims.count_claims(design, 3)
    assert count["headline or ranking"] == count["class or confused pair"] == 3
    assert count["moved further"] == count["robustness"] == 3


def test_what_is_counted_are_the_words_of_the_page():
    rng = np.random.default_rng(0)
    design = claims.Design([5] * 3, [1] * 3, images=4000, run_std=0.07, maps=20,
                           better=3.0, maps_moved=0.7)  # fmt: skip
    page = claims.page(claims.study(design, rng))
    assert any(line.startswith("aug1 wins against none") for line in page)
    assert any(line.startswith("aug1: further apart than seeds are") for line in page)
    nothing = ["No winner. aug1 is first, but it is a tie with none", "aug1: no class stands out"]
    assert not any(claims.claims(nothing).values())


def test_who_looks_until_a_winner_is_named_sees_one_at_the_first_look_that_has_it():
    rng = np.random.default_rng(0)
    kind = "headline or ranking"
    design = claims.Design([6] * 2, [1] * 2, images=4000, run_std=0.07, better=4.0, corrupted=False)
    clear = claims.study(design, rng)
    assert claims.first_claim(clear, (3, 6), kind) == 3
    assert claims.first_claim(clear, (2, 6), kind) in (2, 6)
    nothing = claims.study(dataclasses.replace(design, better=0.0), rng)
    assert claims.first_claim(nothing, (3, 6), kind) is None
