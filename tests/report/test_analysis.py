"""The ranking and its verdicts: what is compared, and what may be said of it."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from augcam.errors import UserError
from augcam.report.analysis import find, generalisation_gap
from tests.report.studies import a_run, a_study, runs_of, some_right

SEEDS = np.array([-0.002, 0, 0.002, 0.001, -0.001])


def study_of(accuracies, seeds=5, **options):
    """Groups of runs around these accuracies, each run right on images of its own."""
    groups = {}
    for i, (label, accuracy) in enumerate(accuracies.items()):
        hits = some_right(accuracy + SEEDS[:seeds], images=2000, seed=i)
        groups[label] = with_accuracy(runs_of(hits, label))
    return a_study(groups, **options)


def with_accuracy(runs):
    return [
        dataclasses.replace(run, metrics={"test": {"accuracy": run.predictions.correct.mean()}})
        for run in runs
    ]


def verdicts(findings):
    return {s.label: s.difference.verdict for s in findings.others}


def test_verdicts_against_the_baseline():
    study = study_of({"none": 0.9, "flip": 0.95, "blur": 0.85, "crop": 0.9})
    findings = find(study, Path("figures"))
    assert verdicts(findings) == {"flip": "better", "crop": "tie", "blur": "worse"}
    flip = findings.standing("flip").difference
    assert flip.mean == pytest.approx(0.05)
    assert 0 < flip.low < flip.mean < flip.high


def test_the_first_wins_only_if_it_is_better_than_every_other():
    alone = find(study_of({"none": 0.9, "flip": 0.92, "crop": 0.95}), Path("figures"))
    assert alone.lead.mean == pytest.approx(0.03)
    assert alone.tied == ()
    close = find(study_of({"none": 0.9, "flip": 0.949, "crop": 0.95}), Path("figures"))
    assert close.lead is None
    assert close.tied == ("flip",)
    assert verdicts(close) == {"crop": "better", "flip": "better"}


def test_more_augmentations_make_each_verdict_and_interval_more_careful():
    few = find(study_of({"none": 0.9, "flip": 0.91}), Path("figures"))
    many = find(
        study_of({"none": 0.9, "flip": 0.91} | {f"x{i}": 0.9 for i in range(8)}), Path("figures")
    )
    one, among = (f.standing("flip").difference for f in (few, many))
    assert one.mean == among.mean
    assert one.p < among.p
    assert among.low < one.low < one.high < among.high


def test_what_would_stand_alone_at_five_per_cent_does_not_among_nine():
    # One p of .028 is a verdict; the least of nine such is not, and nothing leads.
    one = find(study_of({"none": 0.9, "flip": 0.912}), Path("figures"))
    others = {f"x{i}": 0.9 for i in range(8)}
    among = find(study_of({"none": 0.9, "flip": 0.912} | others), Path("figures"))
    assert one.standing("flip").difference.p == pytest.approx(0.028, abs=0.001)
    assert verdicts(one) == {"flip": "better"}
    assert verdicts(among) == dict.fromkeys(("flip", *others), "tie")
    assert among.lead is None


@pytest.mark.parametrize("gap", np.linspace(0.004, 0.012, 5))
def test_a_tie_has_an_interval_with_0_in_it(gap):
    found = find(study_of({"none": 0.9, "flip": 0.9 + gap, "crop": 0.9 - gap}), Path("figures"))
    ties = [s.difference for s in found.others if s.difference.verdict == "tie"]
    assert all(tie.low < 0 < tie.high for tie in ties)


def test_without_a_baseline_the_first_may_still_win():
    findings = find(study_of({"flip": 0.9, "crop": 0.95}, baseline=None), Path("figures"))
    assert findings.lead.verdict == "better"
    assert all(s.difference is None for s in findings.standings)


def test_one_seed_has_no_verdict_and_borrows_no_spread():
    study = study_of({"none": 0.5})
    one = with_accuracy(runs_of(some_right([0.99], images=2000), "flip"))
    findings = find(a_study({"none": study.groups["none"], "flip": one}), Path("figures"))
    difference = findings.standing("flip").difference
    assert (difference.low, difference.p, difference.verdict) == (None, None, None)
    assert findings.lead is None
    assert findings.standing("flip").mcnemar[0].p < 1e-6


def test_mcnemar_is_for_seeds_that_both_have():
    label = np.ones(10)
    group = with_accuracy([a_run(label, [1] * 8 + [0, 0], seed, "flip") for seed in (1, 2)])
    base = with_accuracy([a_run(label, [0] * 5 + [1] * 5, seed) for seed in (2, 3)])
    (pair,) = find(a_study({"none": base, "flip": group}), Path("x")).standing("flip").mcnemar
    assert (pair.seed, pair.b, pair.c) == (2, 2, 5)
    assert pair.p == pytest.approx(stats.binomtest(2, 7).pvalue)


def test_numbers_that_are_not_finite_are_refused():
    study = study_of({"none": 0.9, "flip": 0.9})
    runs = study.groups["flip"]
    bad = dataclasses.replace(runs[0], metrics={"test": {"ece": math.nan}})
    with pytest.raises(UserError, match="nan"):
        find(a_study({"none": study.groups["none"], "flip": [bad, *runs[1:]]}), Path("x"))


def trial(label, val, test, search=True):
    """A trial of a search with its validation accuracy, right on so many of 100 test images."""
    (run,) = with_accuracy(runs_of(np.arange(100)[None] < test, label))
    metrics = run.metrics | {"val": {"accuracy": val}}
    return dataclasses.replace(run, metrics=metrics, search=search)


@pytest.mark.parametrize(("search", "first"), [(True, "a"), (False, "b")])
def test_a_search_is_ranked_by_what_it_chose_on(search, first):
    groups = {"a": [trial("a", 0.9, 70, search)], "b": [trial("b", 0.8, 75, search)]}
    findings = find(a_study(groups, baseline=None), Path("figures"))
    assert findings.standings[0].label == first
    assert findings.searched == search


def test_generalisation_gap():
    history = [
        {"train/accuracy": 0.1, "val/accuracy": 0.2},
        {"train/accuracy": 0.9, "val/accuracy": 0.7},
    ]
    assert generalisation_gap(a_run([1], [1], metrics={"history": history})) == pytest.approx(0.2)
    assert generalisation_gap(a_run([1], [1], metrics={"history": [{"train/accuracy": 1}]})) is None
    assert generalisation_gap(a_run([1], [1])) is None
