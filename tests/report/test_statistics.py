"""The numbers against scipy, scikit-learn and hand arithmetic, and the 5% against simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import jaccard_score

from augcam.errors import UserError
from augcam.report.load import Maps, Predictions, Run, Study
from augcam.report.statistics import (
    MEASURES,
    Comparison,
    class_differences,
    confusion_changes,
    corruption_error,
    generalisation_gap,
    map_distances,
    map_shift,
    mcnemar,
    mean_corruption_error,
    mean_interval,
    noise_floor,
    paired_difference,
)
from augcam.runs.run_folder import RunFolder


def a_run(label, predicted, seed=1, group="none", **parts) -> Run:
    predictions = Predictions(
        np.asarray(label, np.uint16), np.asarray(predicted, np.uint16), np.full(len(label), 0.5)
    )
    optional = {"metrics": {}, "evaluation": None, "maps": None} | parts
    return Run(RunFolder(f"{group}{seed}"), "finished", "", group, seed, predictions=predictions,
               **optional)  # fmt: skip


def a_study(groups: dict[str, list[Run]], classes=("bird", "cat", "dog"), baseline="none") -> Study:
    runs = tuple(run for group in groups.values() for run in group)
    kept = {label: tuple(group) for label, group in groups.items()}
    return Study(runs, kept, baseline, tuple(classes), [], {}, [])


def some_right(accuracies, images=1000, seed=0):
    """Runs (n, images) that are right on images of their own, as many as the accuracies say."""
    rng = np.random.default_rng(seed)
    hits = np.arange(images) < np.round(np.array(accuracies)[:, None] * images)
    return rng.permuted(hits, axis=1)


def runs_of(hits, group="none", first_seed=1):
    """Runs of two classes, the label always 1, right where `hits` (n, images) is true."""
    label = np.ones(hits.shape[1])
    return [a_run(label, row, first_seed + i, group) for i, row in enumerate(hits)]


# ---------------------------------------------------------------------- means and differences


def test_mean_interval_is_students():
    values = [0.91, 0.93, 0.925, 0.94]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.n) == (pytest.approx(0.92625), 4)
    assert found.std == pytest.approx(np.std(values, ddof=1))


def test_one_value_has_no_interval():
    found = mean_interval([0.9])
    assert (found.mean, found.low, found.high, found.std, found.n) == (0.9, None, None, None, 1)
    with pytest.raises(UserError):
        mean_interval([])


def test_mcnemar_is_the_exact_binomial_test():
    for b, c in ((0, 1), (3, 9), (12, 12), (200, 251), (7, 0)):
        assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert mcnemar(0, 0) == 1


def test_a_comparison_by_hand():
    group = np.array([[1, 1, 1, 0], [1, 1, 0, 1]], bool)
    base = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], bool)
    # Accuracies .75, .75 and .25, .25: no variance between runs; each image's own variance is 1/2
    # where its two runs disagree: 2 + 2 of 8, over 2 degrees of freedom: churn = (1/2 x 4) / 4 / 2.
    churn = 0.25
    run = churn / 4  # the floor: over N
    shift = np.array([0.5, 1, 0.5, 0])
    images = max(shift.var(ddof=1) - (1 / 2 + 1 / 2) * churn, 0)
    total = (1 / 2 + 1 / 2) * run + images / 4
    df = 2 * (total / run) ** 2
    mean, half, p = Comparison([group, base]).difference(group, base)
    assert mean == [0.5]
    assert half == pytest.approx([stats.t.ppf(0.975, df) * math.sqrt(total)])
    assert p == pytest.approx([2 * stats.t.sf(0.5 / math.sqrt(total), df)])


def test_where_seeds_are_all_the_noise_it_is_students_t():
    group, base = some_right([0.80, 0.90, 0.94]), some_right([0.70, 0.85, 0.81, 0.9], seed=1)
    _, _, p = Comparison([group, base]).difference(group, base)
    # Every run errs on images of its own: no image is harder for one group, and run noise is far
    # above the floor.
    assert p == pytest.approx([stats.ttest_ind(group.mean(1), base.mean(1)).pvalue])


def test_where_images_are_all_the_noise_it_is_a_paired_test_over_images():
    rng = np.random.default_rng(0)
    one, two = rng.random(2000) < 0.8, rng.random(2000) < 0.83
    group, base = np.stack([one, one]), np.stack([two, two])  # seeds change nothing
    _, _, p = Comparison([group, base]).difference(group, base)
    # All of the degrees of freedom are the images': the normal limit of the paired t test.
    z = abs(stats.ttest_rel(one * 1.0, two * 1.0).statistic)
    assert p == pytest.approx([2 * stats.norm.sf(z)])


def test_close_accuracies_by_chance_are_not_no_noise():
    # Two seeds that agree to the image in number, on images of their own: a difference of two images
    # in 1,000 is nothing, though the spread between runs is zero.
    group, base = some_right([0.9, 0.9]), some_right([0.902, 0.902], seed=1)
    assert Comparison([group, base]).difference(group, base)[2][0] > 0.5


def test_equal_runs_are_a_tie():
    group, base = np.ones((2, 5), bool), np.ones((2, 5), bool)
    found = paired_difference(runs_of(group), runs_of(base))
    assert (found.mean, found.low, found.high, found.p, found.verdict) == (0, 0, 0, 1, "tie")


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([0.95, 0.951, 0.952], "better"),
        ([0.85, 0.852, 0.851], "worse"),
        ([0.9, 0.905, 0.902], "tie"),
    ],
)
def test_verdicts(accuracies, verdict):
    base = runs_of(some_right([0.90, 0.902, 0.901]))
    found = paired_difference(runs_of(some_right(accuracies, seed=1)), base)
    assert found.verdict == verdict
    assert found.mean == pytest.approx(np.mean(accuracies) - 0.901)
    assert found.low < found.mean < found.high
    assert found.why == ""
    assert (found.low <= 0 <= found.high) == (verdict == "tie") == (found.p >= 0.05)


def test_mcnemar_is_told_for_seeds_that_both_have():
    label = np.ones(10)
    group = [a_run(label, [1] * 8 + [0, 0], seed) for seed in (1, 2)]
    base = [a_run(label, [0] * 5 + [1] * 5, seed) for seed in (2, 3)]
    (told,) = paired_difference(group, base).mcnemar
    assert (told.seed, told.b, told.c) == (2, 2, 5)
    assert told.p == pytest.approx(stats.binomtest(2, 7).pvalue)


def test_one_seed_each_has_no_verdict():
    found = paired_difference(runs_of(some_right([0.99])), runs_of(some_right([0.5], seed=1)))
    assert (found.low, found.high, found.p, found.verdict) == (None, None, None, None)
    assert "One seed each" in found.why
    assert found.mcnemar[0].p < 1e-6


def test_a_single_run_borrows_the_spread_of_the_other_group():
    hits, base = some_right([0.97]), some_right([0.80, 0.82, 0.81], seed=1)
    found = paired_difference(runs_of(hits), runs_of(base))
    assert found.verdict == "better"
    std = math.sqrt((1 + 1 / 3) * np.var(base.mean(1), ddof=1))
    assert found.p >= 2 * stats.t.sf(0.16 / std, 2)  # at least Student's, with 2 degrees of freedom
    with pytest.raises(UserError):
        paired_difference([], runs_of(base))


# ------------------------------------------------------------------------------- simulation


def networks(rng, logit, n, std):
    """n networks' right answers; beside each image's own chance a common shift for each network."""
    shifted = logit + rng.normal(0, std, (n, 1))
    return rng.random((n, len(logit))) < 1 / (1 + np.exp(-shifted))


def rate(test, seeds, *, moved=0.0, better=0.0, std=0.07, images=800, repetitions=600):
    """How often `test` says different at 5%; bench/report_statistics.py explains the model."""
    rng = np.random.default_rng(seeds)
    said = 0
    for _ in range(repetitions):
        p = np.clip(rng.beta(0.68, 0.05, images), 1e-6, 1 - 1e-6)
        logit = np.log(p / (1 - p))
        group, base = (
            networks(rng, logit + shift + moved * rng.standard_normal(images), seeds, std)
            for shift in (better, 0)
        )
        said += bool(test(group, base) < 0.05)
    return said / repetitions


def ours(group, base):
    return Comparison([group, base]).difference(group, base)[2][0]


def seeds_alone(group, base):
    return stats.ttest_ind(group.mean(1), base.mean(1)).pvalue


# Three standard errors of a rate of 5% in 600 repetitions.
MARGIN = 3 * math.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    "noise", [{}, {"std": 0.5}, {"moved": 1.5}], ids=["same networks", "loud seeds", "other images"]
)
def test_under_no_difference_five_per_cent_are_at_most_five(seeds, noise):
    assert rate(ours, seeds, **noise) <= 0.05 + MARGIN


def test_seeds_alone_would_say_too_often_that_there_is_a_difference():
    # Why the sampling of images is in the interval: a t test over seeds speaks of these images alone.
    assert rate(seeds_alone, 5, moved=1.5) > 0.1


def test_a_real_difference_is_found():
    assert rate(ours, 3, better=2.0) > 0.9


# ---------------------------------------------------------------------------------- classes

LABEL = np.repeat(np.arange(3), 400)


def in_classes(*accuracies, seed=0):
    """What one run says of LABEL's images: right as often as `accuracies` has it for each class."""
    rng = np.random.default_rng(seed)
    hits = rng.random(len(LABEL)) < np.array(accuracies)[LABEL]
    return np.where(hits, LABEL, (LABEL + 1) % 3)


def test_the_class_that_an_augmentation_hurts_is_clear():
    base = [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=s), s) for s in (1, 2, 3)]
    flip = [a_run(LABEL, in_classes(0.9, 0.6, 0.9, seed=s), s) for s in (11, 12, 13)]
    crop = [
        a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=21), 21)
    ]  # one run: borrows the others' spread
    found = class_differences(a_study({"none": base, "flip": flip, "crop": crop}))
    assert found.groups == ("flip", "crop")
    np.testing.assert_array_equal(found.clear, [[False, True, False], [False, False, False]])
    assert found.images_only is False
    right = np.array(
        [[run.predictions.correct[c == LABEL].mean() for c in range(3)] for run in base]
    )
    hurt = np.array(
        [[run.predictions.correct[c == LABEL].mean() for c in range(3)] for run in flip]
    )
    np.testing.assert_allclose(found.mean[0], hurt.mean(0) - right.mean(0), atol=1e-12)
    assert found.half_width.shape == found.p.shape == (2, 3)
    # An interval keeps off zero where its cell's own p is below 5%.
    np.testing.assert_array_equal(np.abs(found.mean) > found.half_width, found.p < 0.05)


def test_cells_are_marked_by_benjamini_hochberg():
    base = [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=s), s) for s in (1, 2)]
    groups = {
        name: [a_run(LABEL, in_classes(0.9, a, b, seed=10 * i + s), s) for s in (1, 2)]
        for i, (name, a, b) in enumerate((("w", 0.8, 0.85), ("x", 0.9, 0.6), ("y", 0.84, 0.9)), 1)
    }
    found = class_differences(a_study({"none": base} | groups))
    # By hand: the largest k with p_(k) <= 5% k / m, and everything up to it.
    p = np.sort(found.p.ravel())
    bars = 0.05 * np.arange(1, 10) / 9
    last = p[np.flatnonzero(p <= bars)[-1]]
    np.testing.assert_array_equal(found.clear, found.p <= last)
    assert 0 < found.clear.sum() < 9


def test_with_one_seed_the_cells_speak_of_these_networks():
    base = [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=1))]
    flip = [a_run(LABEL, in_classes(0.9, 0.7, 0.9, seed=2))]
    found = class_differences(a_study({"none": base, "flip": flip}))
    assert found.images_only is True
    one, two = base[0].predictions.correct, flip[0].predictions.correct
    for c in range(3):
        here = c == LABEL
        b, c_ = (one & ~two & here).sum(), (two & ~one & here).sum()
        assert found.p[0, c] == pytest.approx(stats.binomtest(b, b + c_).pvalue)


def test_a_class_without_images_is_unknown():
    groups = {
        name: [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=s + t), s) for s in (1, 2)]
        for t, name in enumerate(("none", "flip"))
    }
    found = class_differences(a_study(groups, classes=("bird", "cat", "dog", "empty")))
    assert np.isnan(found.mean[:, 3]).all()
    assert np.isnan(found.p[:, 3]).all()
    assert not found.clear[:, 3].any()


def test_without_a_baseline_nothing_is_compared():
    study = a_study({"flip": [a_run(LABEL, LABEL)]}, baseline=None)
    with pytest.raises(UserError, match="no baseline"):
        class_differences(study)
    with pytest.raises(UserError, match="no baseline"):
        confusion_changes(study, "flip")
    assert map_shift(study, "flip") == noise_floor(study) == {}
    assert corruption_error(study, "flip") is None


def said(cat_as_dog, bird_as_cat):
    """What a run says of LABEL's images that takes the first so many cats for dogs, birds for cats."""
    predicted = LABEL.copy()
    predicted[400 : 400 + cat_as_dog] = 2
    predicted[:bird_as_cat] = 1
    return predicted


def test_confusion_changes_per_thousand_images():
    base = [a_run(LABEL, said(40, 10), 1), a_run(LABEL, said(48, 10), 2)]
    flip = [a_run(LABEL, said(100, 12), 1), a_run(LABEL, said(104, 10), 2)]
    first, second = confusion_changes(a_study({"none": base, "flip": flip}), "flip")
    assert (first.true, first.predicted) == ("cat", "dog")
    # 44 of 400 images under the baseline, 102 now.
    assert (first.baseline, first.group, first.change) == pytest.approx((110, 255, 145))
    assert first.low < first.change < first.high
    assert first.clear
    assert (second.true, second.predicted, second.change) == ("bird", "cat", pytest.approx(2.5))
    assert not second.clear
    assert len(confusion_changes(a_study({"none": base, "flip": flip}), "flip", top=1)) == 1


def test_confusion_changes_of_one_seed_have_no_interval():
    study = a_study({"none": [a_run(LABEL, said(40, 10))], "flip": [a_run(LABEL, said(100, 10))]})
    (found,) = confusion_changes(study, "flip")
    assert (found.change, found.low, found.high, found.clear) == (150, None, None, False)
    with pytest.raises(UserError, match="no such group"):
        confusion_changes(study, "flop")


# ------------------------------------------------------------------------------------- maps


def some_maps(seed, n=20, cells=(4, 4), like=None):
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(n, *cells)).astype(np.float32)
    if like is not None:
        raw = 0.3 * raw + like
    probabilities = rng.dirichlet(np.ones(5), n).astype(np.float16)
    return Maps(np.arange(n), np.zeros(n), probabilities, raw, raw)


def test_map_distances_against_scipy_and_scikit_learn():
    first, second = some_maps(0), some_maps(1)
    found = map_distances(first, second)

    def heat(raw):
        positive = raw.ravel().clip(0).astype(float)
        return (positive - positive.min()) / (positive.max() - positive.min())

    pairs = [(heat(a), heat(b)) for a, b in zip(first.map_true, second.map_true, strict=True)]

    def normalized(p):
        return p.astype(float) / p.astype(float).sum(1, keepdims=True)

    kl = stats.entropy(normalized(first.probabilities), normalized(second.probabilities), axis=1)
    expected = {
        "mean_absolute": np.mean([np.abs(a - b) for a, b in pairs]),
        "mean_squared": np.mean([(a - b) ** 2 for a, b in pairs]),
        "pearson": np.mean([stats.pearsonr(a, b).statistic for a, b in pairs]),
        "spearman": np.mean([stats.spearmanr(a, b).statistic for a, b in pairs]),
        "overlap": np.mean([jaccard_score(a >= 0.5, b >= 0.5) for a, b in pairs]),
        "kl": kl.mean(),
        "left_out": 0,
    }
    assert found == pytest.approx(expected, rel=1e-4)
    assert {*found} == {*MEASURES, "left_out"}


def test_a_map_is_at_no_distance_from_itself_at_any_scale():
    first = some_maps(0)
    scaled = Maps(first.index, first.label, first.probabilities, 7 * first.map_true, first.map_true)
    assert map_distances(first, scaled) == pytest.approx(
        {"mean_absolute": 0, "mean_squared": 0, "pearson": 1, "spearman": 1, "overlap": 1, "kl": 0,
         "left_out": 0},
        abs=1e-6,
    )  # fmt: skip


def test_maps_that_say_nothing_are_left_out_and_counted():
    first, second = some_maps(0), some_maps(1)
    whole = map_distances(
        *(Maps(m.index[4:], m.label[4:], m.probabilities[4:], m.map_true[4:], m.map_true[4:])
          for m in (first, second))
    )  # fmt: skip
    first.map_true[0], first.map_true[1], second.map_true[2:4] = 0, np.nan, -1
    found = map_distances(first, second)
    assert found["left_out"] == pytest.approx(4 / 20)
    for key in ("mean_absolute", "mean_squared", "pearson", "spearman", "overlap"):
        assert found[key] == pytest.approx(whole[key])
    first = some_maps(0)
    first.map_true[:] = -1
    nothing = map_distances(first, second)
    assert math.isnan(nothing["pearson"])
    assert nothing["left_out"] == 1
    assert nothing["kl"] > 0  # of the predictions, which are there all the same


def test_certain_predictions_have_a_finite_divergence():
    first, second = some_maps(0), some_maps(0)
    first.probabilities[:] = [1, 0, 0, 0, 0]
    second.probabilities[:] = [0, 1, 0, 0, 0]
    # All but 4e-7 of the mass lies where the other has 1e-7.
    assert map_distances(first, second)["kl"] == pytest.approx(math.log(1e7), rel=1e-5)


def test_maps_of_other_images_or_layers_are_refused():
    first, other = some_maps(0), some_maps(1)
    moved = Maps(other.index + 1, other.label, other.probabilities, other.map_true, other.map_true)
    with pytest.raises(UserError, match="other images"):
        map_distances(first, moved)
    with pytest.raises(UserError, match="another layer"):
        map_distances(first, some_maps(1, cells=(8, 8)))


def test_the_shift_and_its_floor_are_over_pairs_of_unequal_seeds():
    label, common = np.ones(3), np.random.default_rng(9).normal(size=(20, 4, 4))
    base = {seed: some_maps(seed, like=common) for seed in (1, 2, 3)}
    flip = {seed: some_maps(10 + seed) for seed in (1, 2)}
    study = a_study(
        {
            "none": [a_run(label, label, s, "none", maps=m) for s, m in base.items()],
            "flip": [a_run(label, label, s, "flip", maps=m) for s, m in flip.items()],
            "crop": [a_run(label, label, 1, "crop")],  # not evaluated
        }
    )
    floor, shift = noise_floor(study), map_shift(study, "flip")
    assert floor["pearson"].pairs == 6  # three pairs, each both ways
    expected = [map_distances(base[a], base[b]) for a, b in ((1, 2), (1, 3), (2, 3))]
    pearson = [distances["pearson"] for distances in expected]
    assert floor["pearson"].mean == pytest.approx(np.mean(pearson))
    assert (floor["pearson"].low, floor["pearson"].high) == pytest.approx(
        (min(pearson), max(pearson))
    )
    moved = [map_distances(base[a], flip[b]) for a, b in ((1, 2), (2, 1), (3, 1), (3, 2))]
    for key in MEASURES:
        assert shift[key].mean == pytest.approx(np.mean([distances[key] for distances in moved]))
        assert shift[key].pairs == 4
    assert shift["pearson"].high < floor["pearson"].low
    assert map_shift(study, "crop") == {}


def test_one_seed_has_a_shift_but_no_floor():
    label = np.ones(3)
    study = a_study(
        {
            "none": [a_run(label, label, 1, "none", maps=some_maps(0))],
            "flip": [a_run(label, label, 1, "flip", maps=some_maps(1))],
        }
    )
    assert map_shift(study, "flip")["overlap"].pairs == 1
    assert noise_floor(study) == {}


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


def test_corruption_error_over_seeds():
    label = np.ones(3)
    study = a_study(
        {
            "none": [
                a_run(label, label, s, "none", evaluation=evaluated(fog=[a]))
                for s, a in ((1, 0.7), (2, 0.5))
            ],
            "flip": [
                a_run(label, label, s, "flip", evaluation=evaluated(fog=[a]))
                for s, a in ((1, 0.8), (2, 0.6))
            ],
        }
    )
    found = corruption_error(study, "flip")  # errors .2 and .4 against .4 on average
    assert found.mean == pytest.approx(75)
    assert (found.n, found.std) == (2, pytest.approx(np.std([50, 100], ddof=1)))


def test_generalisation_gap():
    history = [
        {"train/accuracy": 0.1, "val/accuracy": 0.2},
        {"train/accuracy": 0.9, "val/accuracy": 0.7},
    ]
    assert generalisation_gap(a_run([1], [1], metrics={"history": history})) == pytest.approx(0.2)
    assert generalisation_gap(a_run([1], [1], metrics={"history": [{"train/accuracy": 1}]})) is None
    assert generalisation_gap(a_run([1], [1])) is None
