"""Which folders are jobs of this start, and what is said of them."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from augcam.runs.run_folder import RunFolder
from augcam.sweeps import overview
from augcam.sweeps.overview import Watch
from tests.report.conftest import write_run


def job(folder: Path, start: str, hours: float, status: str = "finished") -> None:
    """A run's folder of the start with this word, its files as old as `hours` on this clock."""
    run = write_run(folder, "aug=none", status=status)
    (folder / ".hydra" / "hydra.yaml").write_text(f"hydra: {{callbacks: {{start: {start}}}}}")
    if status == "died":
        run.metrics_file.unlink()
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - 3600 * hours,) * 2)


def test_jobs_of_machines_with_other_clocks_are_not_lost(tmp_path, capsys):
    """They were known by file times: an hour's skew on a network disk, and they were gone."""
    watch = Watch(tmp_path, planned=3, start="start_a1")
    job(tmp_path / "behind", "start_a1", hours=1)
    job(tmp_path / "ahead", "start_a1", hours=-1)
    job(tmp_path / "earlier start", "start_b2", hours=-1)
    assert [run.path.name for run in watch.jobs()] == ["ahead", "behind"]
    watch.look()
    assert "2 of 3 done" in capsys.readouterr().out


def test_jobs_that_ended_without_a_word_and_those_that_never_began_are_listed(tmp_path, capsys):
    watch = Watch(tmp_path, planned=4, start="start_a1")
    job(tmp_path / "good", "start_a1", hours=0)
    job(tmp_path / "lost", "start_a1", hours=0, status="died")
    assert watch.conclude() is True
    out = capsys.readouterr().out
    assert "1 of 4 jobs failed:" in out
    assert "lost: ended unexpectedly" in out
    assert "2 of 4 jobs did not start" in out


def refused(folder: Path) -> None:
    """A job that was refused for two reasons, as its process leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "hydra.yaml").write_text("start_a1")
    (folder / "failure.txt").write_text(
        "augcam: trainer.max_epochs=-5: too few\naugcam: optim.lr=-1: too low\n\nTraceback ...\n"
    )


def test_a_sweep_whose_every_job_was_refused_has_not_begun(tmp_path, capsys):
    for name in ("a", "b"):
        refused(tmp_path / name)
    watch = Watch(tmp_path, planned=2, start="start_a1")
    assert watch.conclude() is True
    assert watch.all_refused()
    _, listed = capsys.readouterr().out.split("2 of 2 jobs failed:")
    assert "a: trainer.max_epochs=-5: too few" in listed
    assert "nothing was kept" in listed
    assert "sweep.dir=" not in listed
    assert not Watch(tmp_path, planned=3, start="start_a1").all_refused()  # one is still to come
    job(tmp_path / "b", "start_a1", hours=0)
    assert not watch.all_refused()


def test_a_refused_job_names_its_file_only_once_it_is_sure_to_stay(tmp_path, capsys):
    """Every path that was printed of a sweep whose every job was refused led nowhere."""
    refused(tmp_path / "a")
    watch = Watch(tmp_path, planned=3, start="start_a1")
    watch.look()
    told = capsys.readouterr().out
    assert told.splitlines()[:2] == [
        "failed   a: trainer.max_epochs=-5: too few", "         optim.lr=-1: too low",
    ]  # fmt: skip
    assert "failure.txt" not in told
    assert "Traceback" not in told
    job(tmp_path / "b", "start_a1", hours=0)
    refused(tmp_path / "c")
    watch.look()
    assert str(tmp_path / "c" / "failure.txt") in capsys.readouterr().out
    assert watch.conclude() is True
    assert str(tmp_path / "a" / "failure.txt") in capsys.readouterr().out


def test_a_sweep_that_is_done_lists_nothing(tmp_path, capsys):
    watch = Watch(tmp_path, planned=1, start="start_a1")
    job(tmp_path / "good", "start_a1", hours=0)
    assert watch.conclude() is False
    assert "failed" not in capsys.readouterr().out


def test_unreadable_metrics_do_not_stop_the_watch(tmp_path, capsys):
    watch = Watch(tmp_path, planned=1, start="start_a1")
    job(tmp_path / "good", "start_a1", hours=0)
    (tmp_path / "good" / "metrics.json").write_text('{"status": "finished", "val": [1]}')
    watch.look()
    assert "1 of 1 done" in capsys.readouterr().out


def finished(folder: Path, accuracy: float) -> RunFolder:
    """A finished run with this validation accuracy."""
    run = write_run(folder, "aug=none")
    run.write_metrics({**run.metrics(), "val": {"accuracy": accuracy}})
    return run


def test_the_line_after_a_job_says_how_long_the_rest_takes_and_which_is_best(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(overview, "time", SimpleNamespace(monotonic=lambda: now))
    before = finished(tmp_path / "before", 0.4)  # by an earlier start: it cost this one no time
    watch = Watch(tmp_path, planned=8)
    states = {before: "finished"}
    states |= {RunFolder(tmp_path / "lost"): "failed", RunFolder(tmp_path / "now"): "running"}
    assert watch.progress(states) == (
        "sweep    1 of 8 done, 1 failed, 1 running, best so far before: 40.00% on validation"
    )
    now += 600
    states |= {finished(tmp_path / "good", 0.9): "finished"}
    states |= {finished(tmp_path / "worse", 0.8): "finished"}
    # Two jobs in ten minutes; of eight, four are neither done nor failed.
    assert watch.progress(states) == (
        "sweep    3 of 8 done, 1 failed, 1 running, about 20 min to go, "
        "best so far good: 90.00% on validation"
    )


@pytest.mark.parametrize("accuracy", [None, 0.5])
def test_nothing_is_to_go_once_the_last_job_has_ended(tmp_path, accuracy):
    watch = Watch(tmp_path, planned=2)
    states = {finished(tmp_path / "a", accuracy): "finished", RunFolder(tmp_path / "b"): "failed"}
    best = ", best so far a: 50.00% on validation" if accuracy else ""
    assert watch.progress(states) == f"sweep    1 of 2 done, 1 failed{best}"
