"""Groups that differ in one number: which are a curve, and where classes part ways."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from augcam.report.analysis import find
from augcam.report.charts import Panel, panels_figure
from augcam.report.key_points import parting_sentence, whole_sentence
from augcam.report.load import read_study
from augcam.report.sections.value_curves import value_curves as section
from augcam.report.value_curves import value_curves
from augcam.viz.page import Picture, Table
from tests.report.conftest import write_run
from tests.report.studies import a_run, a_study

IMAGES = 200  # of each class


def study(settings, accuracies, seeds=4, baseline=None):
    """Groups with these settings; `accuracies` gives each label's accuracy of bird, cat and dog."""
    label = np.repeat(np.arange(3), IMAGES)
    rng = np.random.default_rng(0)
    groups = {}
    for name in settings:
        runs = []
        for seed in range(1, seeds + 1):
            right = np.arange(IMAGES) < np.round(np.array(accuracies[name])[:, None] * IMAGES)
            hits = rng.permuted(right, axis=1).ravel()
            runs.append(a_run(label, np.where(hits, label, (label + 1) % 3), seed, name))
        groups[name] = runs
    return dataclasses.replace(a_study(groups, baseline=baseline), differing=settings)


LIMITS = {f"rotate, aug.rotate.limit={v}": {"aug.rotate.limit": v} for v in (5, 15, 60)}
ACCURACIES = dict(zip(LIMITS, ([0.8, 0.6, 0.7], [0.8, 0.6, 0.7], [0.7, 0.2, 0.6]), strict=True))


def test_a_curve_by_hand():
    (curve,) = value_curves(study(LIMITS, ACCURACIES))
    assert (curve.key, curve.group) == ("aug.rotate.limit", "rotate")
    assert curve.values == (5, 15, 60)
    assert [estimate.mean for estimate in curve.accuracy] == pytest.approx([0.7, 0.7, 0.5])
    assert [estimate.mean for estimate in curve.per_class[1]] == pytest.approx([0.6, 0.6, 0.2])
    assert curve.change == pytest.approx([0, 0, -0.2])
    # Since 5 cat loses 40 points, the others 10 each: cat parts by -30, each of the others is
    # seen against the other's 10 and cat's 40, 25 on average: by +15.
    assert curve.departure[:, 2] == pytest.approx([0.15, -0.3, 0.15])
    assert curve.departure[:, 1] == pytest.approx([0, 0, 0])
    assert curve.clear.tolist() == [False, False, True]
    assert curve.apart[:, 2].all()
    assert not curve.apart[:, :2].any()
    assert np.isnan(curve.p[:, 0]).all()  # the reference is not compared with itself


def test_intervals_are_students_over_seeds():
    rights = ([140, 150, 160], [150, 150, 150], [100, 100, 160])
    groups = {}
    for name, counts in zip(LIMITS, rights, strict=True):
        hits = np.arange(300) < np.array(counts)[:, None]
        groups[name] = [a_run(np.ones(300), row, i) for i, row in enumerate(hits)]
    whole = dataclasses.replace(a_study(groups, baseline=None), differing=LIMITS)
    (curve,) = value_curves(whole)
    for estimate, counts in zip(curve.accuracy, rights, strict=True):
        rates = np.array(counts) / 300
        half = stats.t.ppf(0.975, 2) * rates.std(ddof=1) / np.sqrt(3)
        assert (estimate.low, estimate.high) == pytest.approx(
            (rates.mean() - half, rates.mean() + half)
        )
    assert curve.per_class[0] == (None, None, None)  # bird has no image
    assert not curve.apart.any()


def test_a_loss_that_all_classes_share_parts_none():
    alike = dict(zip(LIMITS, ([0.8] * 3, [0.7] * 3, [0.4] * 3), strict=True))
    (curve,) = value_curves(study(LIMITS, alike))
    assert curve.clear.tolist() == [False, True, True]
    assert not curve.apart.any()
    assert parting_sentence(curve, "abc") == (
        "No class is seen to part from the others; with 4 seeds only large changes would show."
    )


def test_the_sentences():
    (curve,) = value_curves(study(LIMITS, ACCURACIES))
    assert whole_sentence(curve) == "All classes, in points against 5: −20.0 at 60."
    assert parting_sentence(curve, ["bird", "cat", "dog"]) == (
        "Classes part ways, in points beyond the others since 5: cat (−30.0 at 60), bird (+15.0 at "
        "60) and dog (+15.0 at 60)."
    )


def test_one_seed_each_is_drawn_and_not_tested():
    (curve,) = value_curves(study(LIMITS, ACCURACIES, seeds=1))
    assert curve.accuracy[2].mean == pytest.approx(0.5)
    assert not curve.tested
    assert "two seeds" in whole_sentence(curve)
    assert "not tested" in parting_sentence(curve, "abc")


def test_the_baseline_is_what_its_curve_is_compared_with():
    middle = list(LIMITS)[1]
    (curve,) = value_curves(study(LIMITS, ACCURACIES, baseline=middle))
    assert curve.reference == 1
    (curve,) = value_curves(study(LIMITS, ACCURACIES, baseline=None))
    assert curve.reference == 0


def test_what_is_no_curve():
    def curves(*settings):
        names = [str(i) for i in range(len(settings))]
        return value_curves(
            study(dict(zip(names, settings, strict=True)), dict.fromkeys(names, [0.5] * 3))
        )

    assert curves({"k": 1}, {"k": 2}) == []  # two values are a comparison
    assert curves({"k": "a"}, {"k": "b"}, {"k": "c"}) == []
    assert curves({"k": True}, {"k": False}, {"k": 2}) == []
    assert curves({"k": 1}, {"k": 2}, {"k": 3, "model": "x"}) == []  # another network
    assert curves({"k": 1}, {"k": 2}, {}) == []
    grid = [{"k": k, "model": model} for model in ("x", "y") for k in (1, 2, 3)]
    assert [curve.values for curve in curves(*grid)] == [(1, 2, 3), (1, 2, 3)]
    assert len(curves(*({"k": k, "same": k} for k in (1, 2, 3)))) == 1  # one follows the other


def test_a_sweep_of_run_folders(tmp_path):
    for rate in (0.01, 0.1, 0.5):
        for seed in (1, 2):
            write_run(tmp_path / f"{rate}_{seed}", f"optim.lr={rate}", f"seed={seed}", "aug=flip")
    write_run(tmp_path / "none", "aug=none")
    (curve,) = value_curves(read_study([tmp_path]))
    assert (curve.key, curve.group) == ("optim.lr", "flip")  # scheduler.max_lr follows it
    assert curve.values == (0.01, 0.1, 0.5)
    assert curve.runs == (2, 2, 2)


def test_the_section_shows_every_class_and_names_its_test(tmp_path):
    findings = find(study(LIMITS, ACCURACIES), tmp_path)
    written = section(findings)
    (table,) = (block for block in written.blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["all classes", "bird", "cat", "dog"]
    assert table.rows[2][-1] == "−30.0 at 60"
    (picture,) = (block for block in written.blocks if isinstance(block, Picture))
    assert picture.path.is_file()
    assert "Benjamini and Hochberg" in picture.caption


def test_a_study_without_a_curve_has_no_section():
    names: dict[str, dict[str, Any]] = {"none": {}, "flip": {}}
    findings = find(study(names, dict.fromkeys(names, [0.5] * 3)), Path("figures"))
    assert section(findings) is None


def test_the_chart_draws_what_is_given_and_marks_what_parts():
    flat = np.array([0.5, 0.6, 0.7])
    marked = np.array([0, 0, -1])
    panels = [
        Panel("all", flat, flat - 0.1, flat + 0.1, np.zeros(3)),
        Panel("cat", flat[::-1], flat[::-1] - 0.1, flat[::-1] + 0.1, marked),
    ]
    figure = panels_figure(panels, [1, 2, 4], "aug.rotate.limit")
    whole, cat = figure.axes
    np.testing.assert_allclose(np.asarray(whole.lines[0].get_xydata()), [[1, 50], [2, 60], [4, 70]])
    np.testing.assert_allclose(
        np.asarray(cat.lines[0].get_ydata()), [50, 60, 70]
    )  # all classes, behind
    np.testing.assert_allclose(np.asarray(cat.lines[1].get_ydata()), [70, 60, 50])
    faces = [line.get_markerfacecolor() for line in cat.lines[2:]]
    assert faces[:2] == ["white", "white"]
    assert faces[2] != "white"
    assert whole.get_xscale() == "linear"
    far = panels_figure(panels, [0.001, 0.01, 0.1], "optim.lr")
    assert far.axes[0].get_xscale() == "log"
