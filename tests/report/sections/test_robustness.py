"""The section on robustness: our own corruptions and the official ones are told apart."""

import json

import pytest

from augcam.data.cifar10c import EXTRA, STANDARD
from augcam.report.analysis import find
from augcam.report.load import read_study
from augcam.report.sections.robustness import robustness
from augcam.viz.page import Row, Table
from tests.report.make import make_sweep


def tables(section):
    rows = [block.blocks if isinstance(block, Row) else [block] for block in section.blocks]
    return [block for row in rows for block in row if isinstance(block, Table)]


def measured_on_cifar10c(folder, others=()):
    """A sweep of two augmentations; flip is right on 60% of the fifteen and 90% of the extra ones."""
    for run in make_sweep(folder, augs=("none", "flip"), seeds=(1, 2)):
        right = 0.6 if "flip" in run.path.name else 0.5
        names = {name: [right] * 5 for name in STANDARD} | {name: [0.9] * 5 for name in EXTRA}
        record = json.loads(run.evaluation_file.read_text())
        record["cifar10c"] = {"corruptions": names, "other_files": list(others)}
        run.evaluation_file.write_text(json.dumps(record))
    return find(read_study([folder]), folder / "figures")


def test_both_sets_have_a_table_of_their_own(tmp_path):
    section = robustness(measured_on_cifar10c(tmp_path))
    own, official = tables(section)
    assert own.columns[-1] == "mCE without shift and rotation, %"
    assert official.columns[-1] == "mCE, %"
    rows = {row[0]: row for row in official.rows}
    # Over the fifteen: 60% right, and errors .4 where the baseline has .5.
    assert rows["flip"][3] == "60.0"
    assert rows["flip"][-1].startswith("80.0")
    assert rows["none"][-1].startswith("100.0")
    names = {picture.path.name for picture in section.pictures()}
    assert names == {
        "corruptions.png", "severities.png", "cifar10c_corruptions.png", "cifar10c_severities.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("others", "words"),
    [((), "the files are the official ones"), (("fog",), "**not the official ones**")],
)
def test_it_says_whether_the_files_are_the_official_ones(tmp_path, others, words):
    section = robustness(measured_on_cifar10c(tmp_path, others))
    (origin,) = (b for b in section.blocks if isinstance(b, str) and b.startswith("**CIFAR-10-C"))
    assert words in origin
    assert ("`fog.npy`" in origin) == bool(others)


def test_without_the_official_files_nothing_is_said_of_them(tmp_path):
    make_sweep(tmp_path, augs=("none", "flip"), seeds=(1,))
    section = robustness(find(read_study([tmp_path]), tmp_path / "figures"))
    assert len(tables(section)) == 1
    assert not any("CIFAR-10-C" in block for block in section.blocks if isinstance(block, str))
