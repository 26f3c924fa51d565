"""What made the study, as a section."""

from augcam.report.analysis import find
from augcam.report.load import read_study
from augcam.report.sections.how_it_was_made import how_it_was_made
from augcam.viz.page import Table
from tests.report.conftest import write_run


def tables(folder):
    blocks = how_it_was_made(find(read_study([folder]), folder)).blocks
    return [block for block in blocks if isinstance(block, Table)]


def test_what_a_search_drew_has_six_digits_in_labels_and_settings(tmp_path):
    for p in ("0.12345678901234567", "0.98765432109876543"):
        write_run(tmp_path / p, "aug=flip", f"aug.flip.p={p}")
    settings, runs = tables(tmp_path)
    assert sorted(settings.rows) == [
        ["flip, aug.flip.p=0.123457", "flip.p=0.123457"],
        ["flip, aug.flip.p=0.987654", "flip.p=0.987654"],
    ]
    assert {row[2] for row in runs.rows} == {row[0] for row in settings.rows}


def test_runs_are_named_under_the_folder_of_all(tmp_path):
    for name in ("a/flip", "b/c/none"):
        write_run(tmp_path / name, f"aug={name[-4:]}")
    *_, runs = tables(tmp_path)
    assert [row[0] for row in runs.rows] == ["a/flip", "b/c/none"]
    assert f"`{tmp_path}`" in runs.caption
