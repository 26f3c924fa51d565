"""What audits say of each augmentation: a row each, and files that `augcam audit` did not write."""

import json

import pytest

from augcam.data.datasets.shapes import CLASSES
from augcam.report.analysis import find
from augcam.report.load import read_study
from augcam.report.sections.shortcuts import shortcuts
from augcam.viz.page import Table
from tests.report.make import make_sweep


def audit_as(folder, **verdicts):
    classes = {name: {"verdict": verdicts.get(name, "no_sign")} for name in CLASSES}
    folder.audit_file.write_text(json.dumps({"classes": classes, "settings": {}}))


@pytest.fixture
def runs(tmp_path):
    return make_sweep(tmp_path, augs=("none", "flip"), seeds=(1, 2), evaluated=0)


def section(tmp_path):
    return shortcuts(find(read_study([tmp_path]), tmp_path / "report"))


def test_a_study_without_audits_has_no_such_section(runs, tmp_path):
    assert section(tmp_path) is None


def test_each_augmentation_has_its_mean_count_and_the_names(runs, tmp_path):
    by_name = {run.path.name: run for run in runs}
    audit_as(by_name["aug=none,seed=1"], star="shortcut", ring="look")
    audit_as(by_name["aug=none,seed=2"], star="shortcut", arrow="shortcut", heart="context")
    audit_as(by_name["aug=flip,seed=1"])
    (table,) = section(tmp_path).blocks
    assert isinstance(table, Table)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["none"] == ["2 of 2", "1.5", "0.5", "star 2/2 and arrow 1/2", "ring 1/2"]
    assert rows["flip"] == ["1 of 2", "0.0", "0.0", "-", "-"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "audit.json"),
        ('{"classes": {"star": {"verdict": "shortcut"}}}', "other classes"),
        ('{"classes": {"star": {"verdict": "<script>"}}}', "verdict"),
    ],
)
def test_a_damaged_audit_is_named_and_left_out(runs, tmp_path, content, words):
    runs[0].audit_file.write_text(content)
    (problem,) = section(tmp_path).blocks
    assert words in problem
    assert "Not in here" in problem
