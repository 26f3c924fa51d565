"""The example reports: what is kept of a study, and that none is half there."""

import sys

import pytest

from augcam.config.compose import compose
from augcam.config.schema import validate
from augcam.errors import UserError
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import examples


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the pages are kept in place of docs/."""
    monkeypatch.setattr(examples, "ROOT", tmp_path)
    return tmp_path / "docs" / "examples"


def test_the_pages_of_each_study_are_kept_in_place_of_older_ones(tmp_path, place):
    for name in examples.STUDIES:
        (tmp_path / "run" / name / "figures").mkdir(parents=True)
        for file in ("report.html", "report.md", "runs.csv", "figures/a.png"):
            (tmp_path / "run" / name / file).write_text(f"{tmp_path}/run/{name} {file}")
    (place / "rotation" / "figures").mkdir(parents=True)
    (place / "rotation" / "figures" / "old.png").touch()
    assert examples.main(["keep", str(tmp_path / "run")]) == 0
    kept = {str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file()}
    assert len(kept) == 4 * len(examples.STUDIES)
    # Where a study lay on this machine is nobody's business.
    assert kept["rotation/report.md"].read_text() == "rotation report.md"


def test_a_study_without_a_report_is_refused_in_words(tmp_path, place):
    with pytest.raises(
        UserError, match=r"rotation: there is no report.html; run the studies first"
    ):
        examples.main(["keep", str(tmp_path)])
    assert not place.exists()


@pytest.mark.parametrize(
    "sweep", [sweep for study in examples.STUDIES.values() for sweep in study.sweeps]
)
def test_the_studies_are_requests_that_train_py_takes(sweep):
    # Of what is swept over the first value.
    words = [
        word if word.startswith("+") else word.partition(",")[0]
        for word in examples.words(sweep, "outputs/examples")
    ]
    config = validate(compose([*examples.BUDGET.split(), *words]))
    assert config.data.name in ("shapes", "folder")


def test_what_cannot_be_asked_prints_how_to_ask(capsys):
    assert examples.main(["keep"]) == 2
    assert "bench/examples.py run outputs/examples" in capsys.readouterr().err
