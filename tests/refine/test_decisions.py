"""What is hurt and what is confirmed: by hand, and what many candidates cost."""

import numpy as np
import pytest

from augcam.errors import UserError
from augcam.refine.decisions import (
    Arm,
    Arms,
    class_differences,
    confirmation,
    helps,
    look_at_test,
    validation_counts,
)
from augcam.statistics.comparisons import difference_of_counts


def counts(*rates, runs=5, images=200, seed=0):
    """Counts of runs whose classes are right as often as `rates` has it, give or take chance."""
    hits = np.random.default_rng(seed).binomial(images, rates, size=(runs, len(rates)))
    return hits, np.full(hits.shape, images)


def test_counts_are_the_confusions_diagonal_and_rows():
    runs = [{"val": {"confusion": [[3, 1], [2, 8]]}}, {"val": {"confusion": [[4, 0], [5, 5]]}}]
    hits, images = validation_counts(runs)
    assert hits.tolist() == [[3, 8], [4, 5]]
    assert images.tolist() == [[4, 10], [4, 10]]
    without: list[dict] = [{}, {"val": None}, {"val": {"confusion": []}}]
    for nothing in without:
        with pytest.raises(UserError, match="no validation"):
            validation_counts([*runs, nothing])
    with pytest.raises(UserError, match=r"10\^9"):
        validation_counts([{"val": {"confusion": [[10**400, 0], [0, 1]]}}])


def test_only_a_class_that_is_clearly_worse_is_hurt():
    groups = {
        "none": counts(0.9, 0.9, 0.6, seed=1),
        "rotate": counts(0.9, 0.5, 0.9, seed=2),  # the third is helped
        "flip": counts(0.9, 0.9, 0.6, seed=3),
    }
    differences = class_differences(groups, "none", ("bird", "cat", "dog"))
    assert differences.groups == ("rotate", "flip")
    assert differences.clear[0].tolist() == [False, True, True]
    assert differences.hurt == {"rotate": ("cat",)}


def arms(spared, pipeline, baseline, first=0):
    """Of the two classes the second is spared."""
    drawn = [counts(*r, seed=first + i) for i, r in enumerate((spared, pipeline, baseline))]
    return Arms(drawn[0], drawn[1], drawn[2], [1])


def confirmed(spared, pipeline, baseline):
    return confirmation({"x": arms(spared, pipeline, baseline)})["x"]


def test_a_candidate_is_compared_four_times():
    found = confirmed((0.9, 0.9), (0.9, 0.5), (0.9, 0.9))
    assert [(c.images, c.against, c.verdict) for c in found] == [
        ("spared", "pipeline", "better"),
        ("spared", "baseline", "tie"),
        ("all", "pipeline", "better"),
        ("all", "baseline", "tie"),
    ]
    assert helps(found)
    hits = [counts(*r, seed=i)[0] for i, r in enumerate(((0.9, 0.9), (0.9, 0.5)))]
    by_hand = (hits[0][:, 1].sum() - hits[1][:, 1].sum()) / 1000
    assert found[0].mean == pytest.approx(by_hand)
    assert found[0].low < by_hand < found[0].high


def test_what_helps_the_spared_and_costs_all_the_others_more_does_not_help():
    found = confirmed((0.3, 0.9), (0.9, 0.6), (0.9, 0.9))
    assert [c.verdict for c in found] == ["better", "tie", "worse", "worse"]
    assert not helps(found)
    assert not helps(confirmed((0.9, 0.7), (0.9, 0.7), (0.9, 0.9)))


def test_candidates_are_one_family():
    one = arms((0.9, 0.9), (0.9, 0.75), (0.9, 0.9))
    same = arms((0.9, 0.9), (0.9, 0.9), (0.9, 0.9), first=3)
    alone = confirmation({"one": one})["one"][0]
    among = confirmation({"one": one} | {str(i): same for i in range(4)})["one"][0]
    assert among.mean == alone.mean
    # Five candidates share what one has.
    assert among.p == pytest.approx(5 * alone.p)


def test_the_first_question_is_asked_alone_and_the_others_only_after_it():
    rates = (0.9, 0.9), (0.9, 0.8), (0.5, 0.5)
    own, pipeline, base = (counts(*both, seed=i) for i, both in enumerate(rates))
    found = confirmation({"x": Arms(own, pipeline, base, [1])})["x"]
    spared = (own[0][:, 1:], own[1][:, 1:]), (pipeline[0][:, 1:], pipeline[1][:, 1:])
    assert found[0].p == pytest.approx(float(difference_of_counts(*spared).p[0]))
    assert found[0].verdict == "better"
    assert min(c.p for c in found[1:]) >= found[0].p
    # Where the first is a tie, nothing else is said, however far apart.
    found = confirmation({"x": Arms(own, counts(0.9, 0.9, seed=9), base, [1])})["x"]
    assert [c.verdict for c in found] == ["tie"] * 4


@pytest.mark.parametrize("candidates", [1, 3])
def test_the_first_questions_interval_leaves_out_0_just_where_there_is_a_verdict(candidates):
    firsts = [
        one[0]
        for seed in range(20)
        for one in confirmation(
            {
                str(i): arms((0.9, 0.87), (0.9, 0.8), (0.9, 0.9), first=100 * seed + 3 * i)
                for i in range(candidates)
            }
        ).values()
    ]
    assert {c.verdict for c in firsts} == {"better", "tie"}
    assert [c.low > 0 for c in firsts] == [c.verdict == "better" for c in firsts]


def test_the_look_at_the_test_set_compares_the_same_images():
    label = np.repeat([0, 1], 400)
    random = np.random.default_rng(0)

    def right(first, second):
        return random.random((5, 800)) < np.where(label == 0, first, second)

    correct: dict[Arm, np.ndarray] = {
        "spared": right(0.9, 0.9),
        "pipeline": right(0.9, 0.5),
        "baseline": right(0.9, 0.9),
    }
    found = look_at_test(correct, label, [1])
    assert helps(found)
    gap = correct["spared"][:, 400:].mean() - correct["pipeline"][:, 400:].mean()
    assert found[0].mean == pytest.approx(gap)
    assert found[2].mean == pytest.approx(correct["spared"].mean() - correct["pipeline"].mean())
