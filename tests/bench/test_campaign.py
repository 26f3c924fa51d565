"""The campaign: each run of a queue once, going on after kills, paused and stopped on request."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from augcam.errors import UserError
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import campaign

# Stands for train.py: writes down how it was called, and ends as the file `ends` beside it says.
TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
here = Path(__file__).parent
folder = next(a.partition("=")[2] for a in sys.argv if a.startswith(("hydra.run.dir=", "run=")))
(Path(folder) / ".hydra").mkdir(parents=True, exist_ok=True)
(Path(folder) / ".hydra" / "config.yaml").touch()
with (here / "calls").open("a") as calls:
    print(*sys.argv[1:], os.environ["PYTHONPATH"], file=calls)
ends = (here / "ends").read_text().split()
(here / "ends").write_text(" ".join(ends[1:]))
match ends[0] if ends else "finish":
    case "finish":
        (Path(folder) / "metrics.json").write_text(json.dumps({"status": "finished"}))
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    case "fail":
        sys.exit(1)
    case "wait":
        (here / "waiting").write_text(str(os.getpid()))
        time.sleep(60)
"""


@pytest.fixture
def source(tmp_path):
    """A checkout whose train.py and bench/results.py only write down their calls."""
    source = tmp_path / "source"
    (source / "bench").mkdir(parents=True)
    (source / "train.py").write_text(TRAIN)
    (source / "bench" / "results.py").write_text(
        "import sys\n"
        "with open(__file__ + '.kept', 'a') as kept:\n    print(*sys.argv[1:], file=kept)\n"
    )
    (source / "ends").touch()
    return source


@pytest.fixture
def work(tmp_path, source, monkeypatch):
    """Runs a queue to its end in this process: the exit status and the calls of train.py."""
    monkeypatch.setattr(campaign.signal, "signal", lambda *_: None)  # pytest's stay

    def work(lines, ends=""):
        (tmp_path / "queue").write_text(lines)
        (source / "ends").write_text(ends)
        (source / "calls").write_text("")
        folder = tmp_path / "campaign"
        status = campaign.Campaign(folder, tmp_path / "queue", source).work()
        return status, (source / "calls").read_text().splitlines()

    return work


def test_each_run_is_made_in_its_order_kept_and_then_left_alone(work, tmp_path, source):
    queue = "b/1 seed=1 # why\n\n# a comment\na/2 seed=2\n"
    folder, path = tmp_path / "campaign", source / "src"
    calls = [
        f"seed=1 hydra.run.dir={folder}/b/1 {path}",
        f"seed=2 hydra.run.dir={folder}/a/2 {path}",
    ]
    assert work(queue) == (0, calls)
    kept = (source / "bench" / "results.py.kept").read_text().splitlines()
    assert kept == [f"keep b {folder}/b/1", f"keep a {folder}/a/2"]
    assert work(queue) == (0, [])


def test_a_run_that_was_killed_goes_on_and_one_that_failed_does_not_stop_the_rest(work, tmp_path):
    folder = tmp_path / "campaign"
    status, calls = work("a/1\nb/1\n", ends="killed finish fail")
    assert status == 1
    assert [call.split()[0] for call in calls] == [
        f"hydra.run.dir={folder}/a/1", f"run={folder}/a/1", f"hydra.run.dir={folder}/b/1",
    ]  # fmt: skip
    assert [call.split()[0] for call in work("a/1\nb/1\n")[1]] == [f"run={folder}/b/1"]


def test_a_run_that_is_killed_again_and_again_is_given_up(work):
    status, calls = work("a/1\n", ends="killed " * 9)
    assert (status, len(calls)) == (1, campaign.TRIES)


def test_a_study_is_its_script_until_it_ends_well(work, tmp_path, source):
    (source / "bench" / "x.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "folder = Path(sys.argv[1])\nfolder.mkdir(parents=True, exist_ok=True)\n"
        "with (folder / 'tries').open('a') as tries:\n    tries.write('.')\n"
        "sys.exit((folder / 'tries').stat().st_size < 2)\n"
    )
    folder = tmp_path / "campaign" / "x"
    assert [work("x bench/x.py\n")[0] for _ in range(3)] == [1, 0, 0]
    assert (folder / "tries").read_text() == ".."
    kept = (source / "bench" / "results.py.kept").read_text().splitlines()
    assert kept == [f"keep x {folder}"]


def test_a_queue_that_grows_is_worked_on(work, tmp_path, monkeypatch):
    finish = campaign.Campaign.finish

    def finish_and_add(self, job):
        if job.name == "1":
            (tmp_path / "queue").write_text("a/1\na/2\n")
        return finish(self, job)

    monkeypatch.setattr(campaign.Campaign, "finish", finish_and_add)
    assert len(work("a/1\n")[1]) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("seed=1", "give ROW/NAME"),
        ("a", "give ROW/NAME"),
        ("a/b/1", "give ROW/NAME"),
        ("../a seed=1", "give ROW/NAME"),
        ("a/1 seed=1\na/1 seed=2", "a/1 comes twice"),
    ],
)
def test_a_wrong_queue_is_refused(tmp_path, lines, message):
    (tmp_path / "queue").write_text(lines)
    with pytest.raises(UserError, match=message):
        campaign.read_queue(tmp_path / "queue")
    with pytest.raises(UserError, match="no such queue"):
        campaign.read_queue(tmp_path / "other")


def state(pid):
    """The state of a process by the kernel's letter: S sleeping, T stopped; empty when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return ""


def weight():
    """The nice value of this process's session, where the kernel has one."""
    group = Path("/proc/self/autogroup")
    return group.read_text() if group.exists() else ""


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("never came true")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
def test_paused_resumed_and_stopped(tmp_path, source, capsys):
    folder, queue = tmp_path / "campaign", tmp_path / "queue"
    queue.write_text("a/1\n")
    (source / "ends").write_text("wait")
    with pytest.raises(UserError, match="no campaign is working there"):
        campaign.main(["pause", str(folder)])
    campaign.main(["start", str(folder), str(queue), f"--source={source}"])
    try:
        until((source / "waiting").exists)
        until(lambda: (source / "waiting").read_text())
        pid, run = campaign.running(folder), int((source / "waiting").read_text())
        assert os.getsid(run) == pid != os.getsid(0)
        assert os.getpriority(os.PRIO_PROCESS, run) == 19
        with pytest.raises(UserError, match="a campaign is working there"):
            campaign.main(["start", str(folder), str(queue), f"--source={source}"])
        campaign.main(["pause", str(folder)])
        until(lambda: (state(pid), state(run)) == ("T", "T"))
        campaign.main(["resume", str(folder)])
        until(lambda: "T" not in (state(pid), state(run)))
        campaign.main(["pause", str(folder)])
        capsys.readouterr()
        campaign.main(["status", str(folder)])
        assert capsys.readouterr().out.splitlines()[0] == f"process {pid}"
    finally:
        campaign.main(["stop", str(folder)])
    until(lambda: campaign.running(folder) is None)
    until(lambda: state(run) in "Z")
    (source / "ends").write_text("finish")
    before = weight()
    subprocess.run(
        [sys.executable, campaign.__file__, "run", str(folder), str(queue), "--source", str(source)],
        check=True, capture_output=True, env=campaign.environment(ROOT),
    )  # fmt: skip
    assert campaign.RunFolder(folder / "a" / "1").state() == "finished"
    assert weight() == before  # of this session: the campaign was no leader
