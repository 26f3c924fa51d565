"""Which classes and which confusions changed: by hand, and what many cells cost."""

import numpy as np
import pytest

from augcam.errors import UserError
from augcam.report.class_changes import class_differences, confusion_changes
from tests.report.studies import a_run, a_study

LABEL = np.repeat(np.arange(3), 400)


def in_classes(*accuracies, seed=0):
    """What one run says of LABEL's images: right as often as `accuracies` has it for each class."""
    rng = np.random.default_rng(seed)
    hits = rng.random(len(LABEL)) < np.array(accuracies)[LABEL]
    return np.where(hits, LABEL, (LABEL + 1) % 3)


def test_the_class_that_an_augmentation_hurts_is_clear():
    base = [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=s), s) for s in range(5)]
    flip = [a_run(LABEL, in_classes(0.9, 0.6, 0.9, seed=10 + s), s) for s in range(5)]
    crop = [a_run(LABEL, in_classes(0.9, 0.2, 0.9, seed=21), 21)]
    changes = class_differences(a_study({"none": base, "flip": flip, "crop": crop}))
    assert changes.groups == ("flip", "crop")
    # A single run borrows no spread: its cells are not tested, however large.
    np.testing.assert_array_equal(changes.clear, [[False, True, False], [False, False, False]])
    np.testing.assert_array_equal(np.isnan(changes.p), [[False] * 3, [True] * 3])
    right = [[run.predictions.correct[c == LABEL].mean() for c in range(3)] for run in base]
    hurt = [[run.predictions.correct[c == LABEL].mean() for c in range(3)] for run in flip]
    expected = np.mean(hurt, axis=0) - np.mean(right, axis=0)
    np.testing.assert_allclose(changes.mean[0], expected, atol=1e-12)
    # An interval keeps off zero where its cell's own p is below 5%.
    apart = np.abs(changes.mean[0]) > changes.half_width[0]
    np.testing.assert_array_equal(apart, changes.p[0] < 0.05)


def test_with_one_seed_each_nothing_is_told_from_noise():
    base = [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=1))]
    flip = [a_run(LABEL, in_classes(0.9, 0.2, 0.9, seed=2))]
    changes = class_differences(a_study({"none": base, "flip": flip}))
    assert not changes.tested
    assert not changes.clear.any()
    (largest, *_) = confusion_changes(a_study({"none": base, "flip": flip}))["flip"]
    assert (largest.low, largest.high, largest.clear) == (None, None, False)


def test_without_a_baseline_nothing_is_compared():
    study = a_study({"flip": [a_run(LABEL, LABEL)]}, baseline=None)
    for compare in (class_differences, confusion_changes):
        with pytest.raises(UserError, match="no baseline"):
            compare(study)


def test_cells_are_marked_by_benjamini_hochberg():
    base = [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=s), s) for s in range(1, 6)]
    groups = {
        name: [a_run(LABEL, in_classes(0.9, a, b, seed=10 * i + s), s) for s in range(1, 6)]
        for i, (name, a, b) in enumerate((("w", 0.8, 0.85), ("x", 0.9, 0.6), ("y", 0.84, 0.9)), 1)
    }
    changes = class_differences(a_study({"none": base} | groups))
    # By hand: the largest k with p_(k) <= 5% k / m, and everything up to it.
    p = np.sort(changes.p.ravel())
    bars = 0.05 * np.arange(1, 10) / 9
    last = p[np.flatnonzero(p <= bars)[-1]]
    np.testing.assert_array_equal(changes.clear, changes.p <= last)
    assert 0 < changes.clear.sum() < 9


def test_a_class_without_images_is_unknown():
    groups = {
        name: [a_run(LABEL, in_classes(0.9, 0.9, 0.9, seed=s + t), s) for s in range(1, 6)]
        for t, name in enumerate(("none", "flip"))
    }
    changes = class_differences(a_study(groups, classes=("bird", "cat", "dog", "empty")))
    assert np.isnan(changes.mean[:, 3]).all()
    assert np.isnan(changes.p[:, 3]).all()
    assert not changes.clear[:, 3].any()


def answers(cat_as_dog, bird_as_cat):
    """A run's answers to LABEL's images: the first so many cats taken for dogs, birds for cats."""
    predicted = LABEL.copy()
    predicted[400 : 400 + cat_as_dog] = 2
    predicted[:bird_as_cat] = 1
    return predicted


def confused(group, *counts):
    return [a_run(LABEL, answers(*pair), seed, group) for seed, pair in enumerate(counts, 1)]


def test_confusion_changes_per_thousand_images():
    base = confused("none", (40, 10), (48, 10), (44, 10), (43, 10), (45, 10))
    flip = confused("flip", (100, 12), (104, 10), (102, 10), (101, 10), (103, 13))
    study = a_study({"none": base, "flip": flip})
    first, second = confusion_changes(study)["flip"]
    assert (first.true, first.predicted) == ("cat", "dog")
    # 44 of 400 images under the baseline, 102 now.
    assert (first.baseline, first.group, first.change) == pytest.approx((110, 255, 145))
    assert first.low < first.change < first.high
    assert first.clear
    # 10 of 400, then 11.
    assert (second.true, second.predicted, second.change) == ("bird", "cat", pytest.approx(2.5))
    assert not second.clear
    assert len(confusion_changes(study, top=1)["flip"]) == 1


def test_pairs_of_all_augmentations_are_one_family():
    # One augmentation's change that would stand by itself does not among many augmentations.
    base = confused("none", (42, 10), (46, 10), (44, 10), (43, 10), (45, 10))
    flip = confused("flip", (56, 10), (52, 10), (54, 10), (53, 10), (55, 10))
    same = (44, 10), (41, 10), (47, 10), (45, 10), (43, 10)
    rest = {f"same{i}": confused(f"same{i}", *same) for i in range(10)}
    alone = confusion_changes(a_study({"none": base, "flip": flip}))["flip"][0]
    among = confusion_changes(a_study({"none": base, "flip": flip} | rest))["flip"][0]
    assert alone.change == among.change == pytest.approx(25)
    assert alone.clear
    assert not among.clear
