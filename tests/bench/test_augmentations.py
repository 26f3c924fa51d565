"""docs/augmentations.md describes all of conf/aug and conf/mix, as the program would write it now."""

import csv
import re

import numpy as np
import pytest

from augcam.data.augment.strength import table
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "augmentations.md").read_text()


def stems(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.mark.parametrize("name", [*stems("aug"), *stems("mix")])
def test_every_pipeline_and_mix_has_its_row_with_a_cost(name):
    assert re.search(rf"^\| `{name}` \| .+ \| \d+ \|$", PAGE, re.MULTILINE)


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


@pytest.mark.parametrize("name", stems("aug/op"))
def test_every_transform_has_its_section_with_all_its_parameters(name):
    section = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    keys = re.findall(r"^(?!_target_)(\w+):", (ROOT / f"conf/aug/op/{name}.yaml").read_text(), re.M)
    assert section
    for key in keys:
        assert f"| `{key}` |" in section


def test_the_table_of_strengths_is_that_of_the_code():
    for kind, words in table():
        assert f"| {kind} | {words} |" in PAGE


def test_the_picture_is_there_and_small():
    (path,) = re.findall(r"\((images/[\w.]+png)\)", PAGE)
    assert (ROOT / "docs" / path).stat().st_size < 400_000
