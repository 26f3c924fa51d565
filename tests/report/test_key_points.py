"""The sentences on top of the page, of studies whose truth is known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from augcam.config.schema import validate
from augcam.report.analysis import find
from augcam.report.class_changes import ClassDifferences
from augcam.report.key_points import class_sentence, key_points, warnings
from augcam.report.load import read_study
from augcam.report.sections.ranking import ranking
from augcam.viz.page import Table
from tests.conftest import compose
from tests.refine.test_loop import NONE, a_sweep
from tests.report.studies import a_study, runs_of, some_right
from tests.report.test_analysis import study_of, trial, with_accuracy


def sentences(study):
    return key_points(find(study, Path("figures")))


def test_wins_is_for_the_one_that_beats_every_other():
    first, *_ = sentences(study_of({"none": 0.9, "flip": 0.92, "crop": 0.95}))
    assert first.startswith("**crop wins** against `none`: +5.0 points (95% interval ")
    assert "3.0 points ahead of the second, flip" in first
    first, tie, better, *_ = sentences(study_of({"none": 0.9, "flip": 0.949, "crop": 0.95}))
    assert first.startswith("**crop is first**, and better than `none`: +5.0 points")
    assert tie == "**A tie with crop**: **flip**. It cannot be told from crop."
    assert better.startswith("Better than `none`: flip +4.9 points")


def test_of_two_groups_the_better_wins():
    (first, *_) = sentences(study_of({"none": 0.9, "flip": 0.95}))
    assert first.startswith("**flip wins** against `none`")
    assert "ahead of the second" not in first


def test_noise_has_no_winner():
    study = study_of({"none": 0.9, "flip": 0.9005, "crop": 0.901})
    text = " ".join(sentences(study))
    assert text.startswith("**No winner.**")
    for claim in ("wins", "leads", "Better than", "Worse than"):
        assert claim not in text


def test_of_several_ties_only_what_was_tested_is_said():
    """Each is compared with the first; nothing is known of their order."""
    study = study_of({"flip": 0.899, "crop": 0.8995, "cutout": 0.9}, baseline=None)
    _, tie, *_ = sentences(study)
    assert (
        tie == "**A tie with cutout**: **crop** and **flip**. None of them can be told from cutout."
    )


def test_one_seed_each_without_a_baseline_is_untested_and_no_tie():
    first, *_ = sentences(study_of({"flip": 0.9, "crop": 0.95}, seeds=1, baseline=None))
    assert first.startswith("**crop** is first, untested: a test accuracy of ")
    first, *_ = sentences(study_of({"flip": 0.9, "crop": 0.9005}, baseline=None))
    assert first.startswith("**No winner.** crop is first")


def test_spreads_that_differ_much_are_named():
    study = study_of({"none": 0.9, "flip": 0.95})
    assert not any("spread unequally" in s for s in sentences(study))
    hits = some_right(0.95 + np.linspace(-0.03, 0.03, 5), images=2000)
    wide = with_accuracy(runs_of(hits, "flip"))
    study = dataclasses.replace(study, groups=study.groups | {"flip": wide})
    (warning,) = [s for s in sentences(study) if "spread unequally" in s]
    assert "flip by 2.4 points" in warning


def test_where_the_baseline_is_first_its_ties_are_named_once():
    text = " ".join(sentences(study_of({"none": 0.9, "flip": 0.8995, "crop": 0.8})))
    assert text.startswith("**Nothing is ahead of `none`**")
    assert text.count("Tied with `none`: flip") == 1
    assert "A tie with" not in text
    assert "Worse than `none`: crop −10.0" in text


def test_a_search_shows_the_test_of_the_chosen_one_alone(tmp_path):
    # The trial that is worse on validation happens to be better on the test set.
    groups = {"a": [trial("a", 0.9, 70)], "b": [trial("b", 0.8, 75)]}
    study = a_study(groups, baseline=None)
    first, *rest = sentences(study)
    assert first.startswith("**The search chose a**: 90.0% on validation, the best of 2 settings")
    assert "Its test accuracy is 70.0%" in first
    page = ranking(find(study, tmp_path))
    (table,) = page.blocks
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert "75.0" not in " ".join([*rest, *(cell for row in table.rows for cell in row)])


@pytest.mark.parametrize("errors", [(0.30, 0.301), (0.15, 0.30)])
def test_fewest_errors_are_claimed_if_they_beat_the_runner_up(errors):
    study = study_of({"none": 0.9, "flip": 0.9, "crop": 0.9})
    groups = {}
    for (label, runs), error in zip(study.groups.items(), (0.4, *errors), strict=True):
        groups[label] = tuple(
            dataclasses.replace(
                run,
                evaluation={"images": 60, "corruptions": {"fog": [1 - error + 0.002 * seed]}},
            )
            for seed, run in enumerate(runs)
        )
    text = " ".join(sentences(dataclasses.replace(study, groups=groups)))
    assert ("the fewest of all" in text) == (errors[0] == 0.15)


def evaluated(study, images):
    """The same study, every run measured on so many images, `crop` far better than the others."""
    groups = {}
    for label, runs in study.groups.items():
        fog = [(0.9 if label == "crop" else 0.5) + 0.002 * i for i in range(len(runs))]
        groups[label] = tuple(
            dataclasses.replace(run, evaluation={"images": images, "corruptions": {"fog": [one]}})
            for run, one in zip(runs, fog, strict=True)
        )
    return dataclasses.replace(study, groups=groups)


def test_robustness_is_said_of_the_images_that_were_evaluated():
    (said,) = [
        s
        for s in sentences(evaluated(study_of({"none": 0.9, "crop": 0.9}), 250))
        if "Robustness" in s
    ]
    assert said.startswith(
        "**Robustness** (on these 250 images; another choice of images is not allowed for): errors"
    )


def test_what_is_open_takes_a_study_of_its_own_with_more_seeds_that_nobody_has_seen(tmp_path):
    """Seeds added until something stands out are no test."""
    flip = NONE.model_copy(update={"aug_name": "flip"})
    sweep = a_sweep(tmp_path / "sweep", seeds=3, rotate=flip)
    (step,) = [s for s in sentences(read_study([sweep])) if "of what is open" in s]
    assert "with fresh seeds, to be judged by itself: `python train.py -m aug=" in step
    assert " seed=4,5,6,7,8,9 " in step or " seed=4,5,6,7,8,9`" in step
    assert "sweep." not in step


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["data=cifar10", "data.holdout=0.9"],
            "trained on 5,000 of 50,000 images (`data.holdout=0.9`)",
        ),
        (["data=cifar10", "data.holdout=45000"], "trained on 5,000 of 50,000 images"),
        (["data=cifar100", "data.holdout=0.8"], "trained on 10,000 of 50,000 images"),
        (
            ["data=shapes", "data.train_size=600", "data.holdout=0.75"],
            "trained on 150 of 600 images",
        ),
        (["data=cifar10", "data.holdout=0.1"], ""),
    ],
)
def test_a_study_on_the_smaller_part_of_its_images_is_called_reduced(overrides, words):
    config = validate(compose(overrides))
    study = study_of({"none": 0.9, "crop": 0.9})
    groups = {
        label: tuple(dataclasses.replace(run, config=config) for run in runs)
        for label, runs in study.groups.items()
    }
    said = " ".join(warnings(find(dataclasses.replace(study, groups=groups), Path("figures"))))
    assert words in said
    assert ("A reduced study" in said) == bool(words)


def test_that_no_class_stands_out_is_not_called_small():
    """With three seeds a class may differ by much and not stand out: how far its interval reaches."""
    classes = ClassDifferences(
        ("flip", "crop"), ("cat", "dog"), mean=np.array([[0.01, -0.2], [0, 0]]),
        half_width=np.array([[0.1, 0.28], [np.nan, np.nan]]), p=np.array([[0.5, 0.2], [np.nan, np.nan]]),
        clear=np.zeros((2, 2), bool),
    )  # fmt: skip
    assert class_sentence(classes, 0) == (
        "flip: no class stands out; the classes' 95% intervals reach to 48 points."
    )
    assert class_sentence(classes, 1) == "crop: no class is tested, which takes two seeds."


def test_a_class_that_is_hurt_comes_with_what_spares_it(tmp_path):
    """Through real folders: the command that spares it, and the study that would confirm it."""
    sweep = a_sweep(tmp_path / "sweep", seeds=5)
    points = key_points(find(read_study([sweep]), tmp_path))
    (spare,) = [point for point in points if "To spare" in point]
    assert spare.startswith(
        "**To spare bowtie and hourglass**, which rotate hurts: `python train.py -m "
    )
    assert "'aug.rotate.except=[bowtie,hourglass]'`" in spare
    assert f"`augcam refine {sweep}`" in spare


def test_where_no_class_is_hurt_nothing_is_to_be_spared(tmp_path):
    sweep = a_sweep(
        tmp_path / "sweep", seeds=5, rotate=NONE.model_copy(update={"aug_name": "flip"})
    )
    assert "spare" not in " ".join(key_points(find(read_study([sweep]), tmp_path)))
