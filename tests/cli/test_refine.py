"""`augcam refine`: the loop through the command, and what it refuses."""

import dataclasses

import pytest

from augcam.cli.main import main
from augcam.cli.refine import sentences
from augcam.refine.loop import refine
from tests.refine.test_loop import NONE, a_sweep, pretended


def asked(*arguments):
    try:
        main(["refine", *map(str, arguments)])
    except SystemExit as ended:
        return ended.code
    return 0


def test_a_planted_pair_through_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    sweep = a_sweep(tmp_path / "sweep")
    monkeypatch.setattr("augcam.refine.processes.train_in_process", lambda run, _: pretended(run))
    assert asked("sweep", "seeds=3") == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "rotate hurts bowtie: −" in said
    assert "10 validation accuracies against none, Benjamini-Hochberg, 5%" in said
    # Before anything is trained, and beside what came of it.
    assert said.count("data.holdout=1000 is 33% of the training images") == 2
    assert "on validation (3 fresh seeds, 4 differences, 5% together)" in said
    assert "on the test set (one look, 3 fresh seeds, 4 differences, 5% together)" in said
    assert "better than rotate on the spared classes: +" in said
    assert (
        "Sparing bowtie and hourglass wins over rotate: aug.rotate.except=[bowtie,hourglass]"
        in said
    )
    assert {path.name for path in sweep.iterdir()} == {
        f"aug={aug},seed={seed}" for aug in ("none", "rotate") for seed in range(1, 5)
    }
    assert (tmp_path / "sweep_refine" / "refine.json").is_file()


def test_no_verdict_stands_beside_an_interval_that_holds_0(tmp_path):
    outcome = refine(a_sweep(tmp_path / "sweep"), tmp_path / "out", pretended, print, seeds=3)
    own, _, every, _ = outcome.test
    better = dataclasses.replace(own, low=-0.01, high=0.2, p=0.04, verdict="better")
    tie = dataclasses.replace(every, low=-0.01, high=0.2, p=0.06, verdict="tie")
    *_, better_line, tie_line, _ = sentences(dataclasses.replace(outcome, test=[better, tie]))
    assert better_line.endswith("points (adjusted p 0.040)")
    assert tie_line.endswith("points (95% interval −1.0 to +20.0, adjusted p 0.060)")


def test_no_class_hurt_is_an_answer(tmp_path, capfd):
    a_sweep(tmp_path / "sweep", rotate=NONE.model_copy(update={"aug_name": "flip"}))
    assert asked(tmp_path / "sweep") == 0
    assert "No class is clearly hurt" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which sweep?"),
        (["a", "b"], "one folder"),
        (["nowhere"], "nowhere: no such folder"),
        (["."], "no runs in there"),
        ([".", "seeds=2"], "seeds=2"),
        ([".", "out=./inside"], "lies in the sweep"),
        ([".", "aug=rotate"], "aug: there is no such key"),
    ],
)
def test_what_cannot_be_asked(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert asked(*arguments) == 2
    assert words in capfd.readouterr().err
