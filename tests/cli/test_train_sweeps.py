"""Sweeps through the real command line: names, skipping, going on, failures, launchers."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from augcam.report.analysis import find
from augcam.report.load import read_study
from augcam.runs.run_folder import RunFolder
from tests.conftest import ROOT, train_py

# torch's threads of several processes would fight over the cores.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TINY = [
    "data=shapes", "data.train_size=120", "data.test_size=40", "data.holdout=40", "data.batch_size=20",
    "model=resnet10", "model.width=8", "explain.images=0", "preview.samples=0",
    "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.log_every_n_steps=1",
]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """What a run left, but for the files that Hydra writes at every start."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".hydra" not in path.parts and path.name != "train.log"
    }


def jobs(folder: Path) -> dict[str, str]:
    return {
        path.name: RunFolder(path).state()
        for path in folder.iterdir()
        if (path / ".hydra" / "config.yaml").is_file() or (path / "failure.txt").is_file()
    }


def test_jobs_are_named_by_what_varies_and_a_second_start_skips_what_is_done(tmp_path):
    sweep = ["-m", *TINY, "aug=none,flip", "seed=1", f"sweep.dir={tmp_path}/study"]
    first = train_py(*sweep, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert jobs(tmp_path / "study") == {"aug=none": "finished", "aug=flip": "finished"}
    assert "2 of 2 done" in first.stdout
    assert "report   " in first.stdout
    assert (tmp_path / "study" / "report.html").is_file()

    before = {name: contents(tmp_path / "study" / name) for name in jobs(tmp_path / "study")}
    again = train_py(*sweep, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("has finished: nothing to do") == 2
    assert {name: contents(tmp_path / "study" / name) for name in before} == before

    # Going on with other values would make other runs of them: refused, and what is there is kept.
    other = train_py(*sweep, "trainer.max_epochs=2", cwd=tmp_path)
    assert other.returncode == 1
    assert "2 of 2 jobs failed" in other.stdout
    assert "trainer.max_epochs=2: this run has 1" in other.stdout
    kept = {name: contents(tmp_path / "study" / name) for name in before}
    assert {n: files | {"failure.txt": b""} for n, files in before.items()} == {
        n: files | {"failure.txt": b""} for n, files in kept.items()
    }
    assert set(jobs(tmp_path / "study").values()) == {"finished"}


def test_a_job_that_fails_stops_no_other_and_is_listed_with_its_log(tmp_path):
    done = train_py(
        "-m", *TINY, "aug=rotate", "aug.rotate.p=0.5,1.7,1.0", f"sweep.dir={tmp_path}/study",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert jobs(tmp_path / "study") == {
        "aug.rotate.p=0.5": "finished",
        "aug.rotate.p=1.7": "failed",
        "aug.rotate.p=1.0": "finished",
    }
    log = tmp_path / "study" / "aug.rotate.p=1.7" / "failure.txt"
    assert "aug.rotate.p=1.7" in log.read_text()
    told, listed = done.stdout.split("1 of 3 jobs failed:")
    # When it happens, and at the end; each with the file to look at.
    assert f"failed   aug.rotate.p=1.7: {log.read_text().splitlines()[0][8:]}" in told
    assert str(log) in told
    assert str(log) in listed


def test_a_sweep_killed_in_the_middle_goes_on(tmp_path):
    study = tmp_path / "study"
    # Caught in its second job, which waits in its second epoch.
    wait = f"{{_target_: tests.cli.callbacks.WaitInEpoch, epoch: 2, until: '{tmp_path}/${{seed}}'}}"
    sweep = ["-m", *TINY, "trainer.max_epochs=3", "seed=1,2,3", "aug=flip", "sweep.name=study",
             f"sweep.dir={study}", "trust=[tests]", f"+callbacks.wait={wait}"]  # fmt: skip
    (tmp_path / "1").touch()
    (tmp_path / "3").touch()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *sweep], cwd=ROOT, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    second = RunFolder(study / "seed=2")
    deadline = time.monotonic() + 200
    while not second.last.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert second.state() == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The job that ran is a process of its own, and is asked to stop: it keeps what it has.
    (tmp_path / "2").touch()
    while second.state() == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert jobs(study) == {"seed=1": "finished", "seed=2": "interrupted"}
    first = contents(study / "seed=1")

    done = train_py(*sweep, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(jobs(study).values()) == {"finished"}
    assert len(jobs(study)) == 3
    assert contents(study / "seed=1") == first
    assert "going on from" in (study / "seed=2" / "train.log").read_text()
    # The killed job ended where it would have: its history is whole.
    metrics = second.metrics()
    assert metrics is not None
    assert [row["epoch"] for row in metrics["history"]] == [1, 2, 3]


def test_two_processes_do_not_share_a_run_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    with folder.locked():
        done = train_py(*TINY, f"hydra.run.dir={folder.path}")
    assert done.returncode == 2
    assert "another process is working in this folder" in done.stderr


def test_jobs_run_side_by_side_and_share_the_cores(tmp_path):
    done = train_py(
        "-m", *TINY, "aug=none,flip", "seed=1,2", f"sweep.dir={tmp_path}/study",
        "hydra.launcher.n_jobs=2", cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    states = jobs(tmp_path / "study")
    assert len(states) == 4
    assert set(states.values()) == {"finished"}
    for name in states:
        metrics = json.loads((tmp_path / "study" / name / "metrics.json").read_text())
        assert metrics["environment"]["torch_threads"] == max(1, (os.cpu_count() or 1) // 2)
    assert "4 of 4 done" in done.stdout
    assert "epoch 1/1" not in done.stdout  # each job's lines are in its train.log alone
    assert "epoch 1/1" in (tmp_path / "study" / "aug=none,seed=1" / "train.log").read_text()


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_job_that_is_killed_or_cannot_write_stops_no_other(tmp_path):
    """joblib's pool ended with the first killed worker: no list, no report, the others killed."""
    study = tmp_path / "study"
    study.mkdir()
    (study / "seed=2").write_text("in the way of its folder")
    (study / "seed=4").mkdir()
    (study / "seed=4" / ".hydra").write_text("in the way of what Hydra writes")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *TINY, "seed=1,2,3,4", f"sweep.dir={study}",
         "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "data.train_size=400"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (study / "seed=1" / ".hydra" / "config.yaml").exists():  # it has begun
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first = next(  # the one whose log it is
        pid
        for pid in children(process.pid)
        if any("seed=1" in str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir())
    )
    os.kill(first, signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, out
    assert jobs(study) == {"seed=1": "failed", "seed=3": "finished", "seed=4": "failed"}
    listed = out.split("3 of 4 jobs failed:")[1]
    assert "seed=1: its process was ended by SIGKILL" in listed
    assert "seed=2: cannot start: Not a directory (not written into its folder:" in listed
    assert "seed=4: FileExistsError" in listed
    assert str(study / "seed=1" / "failure.txt") in listed
    assert f"the same command with sweep.dir={study}" in listed
    assert f"report   {study}/report.html" in listed


@pytest.mark.parametrize("launches", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["one", "many"])
def test_with_fail_fast_a_failed_job_is_the_last(tmp_path, launches):
    done = train_py(
        "-m", *TINY, "aug=rotate", "aug.rotate.p=1.7,0.5,1.0", f"sweep.dir={tmp_path}/study",
        "sweep.fail_fast=true", *launches, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert jobs(tmp_path / "study") == {"aug.rotate.p=1.7": "failed"}
    assert "1 of 3 jobs failed:" in done.stdout
    assert "2 of 3 jobs did not start" in done.stdout


def test_a_stopped_sweep_stops_its_jobs_which_keep_what_they_have(tmp_path):
    study = tmp_path / "study"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *TINY, "seed=1,2", f"sweep.dir={study}",
         "trainer.max_epochs=200", "data.train_size=400"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    run = RunFolder(study / "seed=1")
    deadline = time.monotonic() + 200
    while not run.last.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) == 143
    assert jobs(study) == {"seed=1": "interrupted"}


@pytest.mark.parametrize("values", ["seed=range(0)", "aug=glob(no_such*)"])
def test_a_sweep_without_jobs_is_refused(tmp_path, values):
    done = train_py("-m", *TINY, values, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"augcam: {values}: no values, so no jobs"
    assert not list(tmp_path.rglob("*.yaml"))


def test_a_sweep_that_is_refused_leaves_no_folder(tmp_path):
    done = train_py("-m", *TINY, "aug=none,nonne", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean none" in done.stderr
    assert not list(tmp_path.rglob("multirun.yaml"))


def test_a_sweep_whose_every_job_is_refused_leaves_no_folder(tmp_path):
    study = tmp_path / "study"
    done = train_py(
        "-m", *TINY, "seed=1,2", "optim.lr=-1", "loss.l1=-1", f"sweep.dir={study}", cwd=tmp_path
    )
    assert done.returncode == 1
    told, listed = done.stdout.split("2 of 2 jobs failed:\n")
    for problem in ("optim.lr=-1", "loss.l1=-1"):
        assert told.count(f"{problem}: ") == 2
    assert "  seed=1: " in listed
    assert "failure.txt" not in done.stdout
    assert not study.exists()


def test_submitit_with_its_local_executor(tmp_path):
    done = train_py(
        "-m", *TINY, "aug=none,flip", f"sweep.dir={tmp_path}/study",
        "hydra/launcher=submitit_local", cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(tmp_path / "study") == {"aug=none": "finished", "aug=flip": "finished"}
    assert "2 of 2 done" in done.stdout


def test_optuna_searches_for_the_highest_validation_accuracy(tmp_path):
    done = train_py(
        "-m", *TINY, "aug=rotate", "aug.rotate.limit=interval(0,45)", "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3", f"sweep.dir={tmp_path}/study", cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    states = jobs(tmp_path / "study")
    assert len(states) == 3
    accuracies = {}
    for name in states:
        metrics = json.loads((tmp_path / "study" / name / "metrics.json").read_text())
        accuracies[metrics["config"]["aug"]["rotate"]["limit"]] = metrics["val"]["accuracy"]
    results = (tmp_path / "study" / "optimization_results.yaml").read_text()
    assert f"best_value: {max(accuracies.values())}" in results
    # The report ranks what was searched for by what the search went by.
    assert find(read_study([tmp_path / "study"]), tmp_path).searched


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: uv sync --group ray"
)
def test_ray_on_a_cluster_started_here(tmp_path):
    ray = str(Path(sys.executable).with_name("ray"))
    started = subprocess.run(
        [ray, "start", "--head", "--port=0", "--num-cpus=2", "--include-dashboard=false"],
        capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        done = train_py(
            "-m", *TINY, "aug=none,flip", f"sweep.dir={tmp_path}/study", "hydra/launcher=ray",
            "hydra.launcher.ray.init.address=auto", cwd=tmp_path, env=ENVIRONMENT,
        )  # fmt: skip
    finally:
        subprocess.run([ray, "stop", "--force"], capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs(tmp_path / "study") == {"aug=none": "finished", "aug=flip": "finished"}
