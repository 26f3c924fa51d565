"""What the maps say in numbers, of files as evaluation writes them."""

import json

import numpy as np
import pytest
from scipy import stats

from augcam.report.analysis import find
from augcam.report.load import read_study
from augcam.report.sections.where_they_look import map_shift_blocks, where_they_look
from augcam.viz.page import Table
from tests.report.conftest import write_evaluation, write_run

COLUMNS = [
    "insertion less random ↑", "insertion less centre ↑",
    "deletion less random ↓", "deletion less centre ↓",
]  # fmt: skip


def summary(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "n": 12}


def excess(random: tuple[float, float], centre: tuple[float, float]) -> dict:
    """Of a map's (insertion, deletion) over each map that knows nothing."""
    return {
        name: {"insertion": summary(insertion), "deletion": summary(deletion)}
        for name, (insertion, deletion) in (("random", random), ("centre", centre))
    }


@pytest.fixture
def table(tmp_path, maps, monkeypatch):
    """The table of a study whose runs' evaluations have these measures."""

    def read(measures: dict[str, list[dict]]) -> Table:
        for aug, several in measures.items():
            for seed, one in enumerate(several, 1):
                run = write_run(tmp_path / f"{aug}{seed}", f"aug={aug}", f"seed={seed}")
                (run.path / ".hydra" / "hydra.yaml").write_text("hydra: {mode: RUN}\n")
                (run.path / ".hydra" / "overrides.yaml").write_text(f"- aug={aug}\n")
                write_evaluation(run, maps)
                file = run.path / "evaluation.json"
                file.write_text(json.dumps(json.loads(file.read_text()) | {"maps": one}))
        section = where_they_look(find(read_study([tmp_path]), tmp_path))
        (found,) = (b for b in section.blocks if isinstance(b, Table) and "seeds" in b.columns)
        return found

    return read


def rows(of: Table) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(of.columns, row, strict=True)) for row in of.rows}


def test_the_excess_over_maps_that_know_nothing_has_its_columns(table):
    none = [
        {"excess": excess((a, -0.1), (0.05, -0.02)), "concentration": summary(0.5)}
        for a in (0.10, 0.14)
    ]
    flip = [{"excess": excess((0.3, 0.04), (0.2, 0.01)), "concentration": summary(0.6)}]
    page = table({"none": none, "flip": flip})
    assert page.columns == ["augmentation", "seeds", *COLUMNS, "concentration"]
    cells = rows(page)
    # Over two seeds: Student's interval of 0.10 and 0.14, with one degree of freedom.
    half = stats.t.ppf(0.975, 1) * np.std([0.10, 0.14], ddof=1) / np.sqrt(2)
    assert cells["none"][COLUMNS[0]] == f"0.120 ± {half:.3f}"
    assert cells["none"][COLUMNS[2]].startswith("−0.100")
    # Of a single run: over its images, and marked so.
    assert [cells["flip"][column] for column in COLUMNS] == [
        "0.300 ± 0.020 (images)", "0.200 ± 0.020 (images)",
        "0.040 ± 0.020 (images)", "0.010 ± 0.020 (images)",
    ]  # fmt: skip
    assert "not measured by an earlier version" not in page.caption


def test_evaluations_without_an_excess_have_dashes_and_say_why(table):
    old = {"insertion": summary(0.5), "deletion": summary(0.2), "concentration": summary(0.5)}
    page = table({"none": [old], "flip": [old]})
    assert [rows(page)["flip"][column] for column in COLUMNS] == ["-"] * 4
    assert rows(page)["flip"]["concentration"] == "0.500 ± 0.020 (images)"
    assert "A dash: not measured by an earlier version" in page.caption


def test_maps_of_another_size_are_not_compared_and_the_page_says_so(tmp_path, maps):
    """As those of a network with other strides."""

    def blocks_with(aug, own):
        write_evaluation(write_run(tmp_path / aug, f"aug={aug}", "seed=1"), own)
        return map_shift_blocks(find(read_study([tmp_path]), tmp_path))

    assert blocks_with("none", maps) == []
    sentence = (
        "How far the maps of `flip` moved is not measured: they have another number of cells than those "
        "of `none`."
    )
    assert blocks_with("flip", maps.repeat(2, axis=1).repeat(2, axis=2)) == [sentence]
    _heading, table, last = blocks_with("cutout", maps)
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["cutout to none"]
    assert last == sentence
