"""docs/augmentations.md describes all of conf/aug and conf/mix, as the program would write it now."""

import csv
import re
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import augmentations

PAGE = (ROOT / "docs" / "augmentations.md").read_text()


def test_the_page_is_what_the_program_writes_now():
    """Every pipeline, transform and mix of conf/ with its parameters; the times stay as measured."""
    assert augmentations.rewritten(PAGE) == PAGE


def test_what_each_did_in_the_study_is_what_its_report_says():
    with (ROOT / "docs" / "examples" / "cifar10" / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    accuracy: dict[str, list[float]] = {}
    for run in runs:
        accuracy.setdefault(run["label"], []).append(float(run["test_accuracy"]))
    base = np.mean(accuracy.pop("none"))
    for name, values in accuracy.items():
        cell = rf"^\| `{name}` \|.*\| ([+−][\d.]+) \(.+?\), \w+[^|]*\| \d+ \|$"
        (said,) = re.findall(cell, PAGE, re.MULTILINE)
        points = 100 * (np.mean(values) - base)
        assert float(said.replace("−", "-")) == pytest.approx(points, abs=0.0051)
    assert PAGE.count("| the baseline: ") == 1


def test_the_picture_is_there_and_small():
    (path,) = re.findall(r"\((images/[\w.]+png)\)", PAGE)
    assert (ROOT / "docs" / path).stat().st_size < 400_000
