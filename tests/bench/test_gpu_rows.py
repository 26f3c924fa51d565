"""All rows on one card: their order, who has the machine to itself, stopping in time, going on."""

import json
import sys
import tarfile
import time
from pathlib import Path

import pytest

from augcam.errors import UserError
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import gpu_rows
from gpu_rows import Rows, Task

# Stands for train.py: writes down when it began and ended. The first word is how many seconds it takes,
# from when every event that `after=` names has come; a run that is stopped goes on, and needs no more
# time.
TRAIN = """
import json, signal, sys, time
from pathlib import Path
key, _, value = sys.argv[-1].partition("=")
folder = Path(value)
(folder / ".hydra").mkdir(parents=True, exist_ok=True)
(folder / ".hydra" / "config.yaml").touch()
def note(words):
    with (Path(__file__).parent / "events").open("a") as events:
        print(words, folder.parent.name, file=events)
def stop(*_):
    note("stopped")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
note("began" if key == "hydra.run.dir" else "went on")
if key == "hydra.run.dir":
    for word in sys.argv:
        while word[:6] == "after=" and word[6:] not in (Path(__file__).parent / "events").read_text():
            time.sleep(0.02)
    time.sleep(float(sys.argv[1]))
note("ended")
if "fail" in sys.argv:
    sys.exit("no such thing")
metrics = {"status": "finished", "test": {"accuracy": 0.9}, "epochs": 35, "wall_seconds": 70}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setattr(gpu_rows, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_rows, "STOPPING", 60)
    return tmp_path


def events(root):
    file = root / "events"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def work(root, tasks, slots=2, seconds=120):
    rows = Rows(root / "out", slots, time.monotonic() + seconds)
    return rows, rows.work(tasks)


def test_runs_share_the_card_but_not_with_what_measures_time(root):
    tasks = [
        Task("a/1", ("0.5",), alone=True), Task("b/1", ("0", "after=began c")),
        Task("c/1", ("0.5", "after=ended b")), Task("d/1", ("0",), alone=True),
    ]  # fmt: skip
    _, done = work(root, tasks)
    assert done
    seen = events(root)
    assert seen[:2] == [["began", "a"], ["ended", "a"]]
    assert sorted(seen[2:4]) == [["began", "b"], ["began", "c"]]
    assert seen[4:6] == [["ended", "b"], ["ended", "c"]]
    assert seen[6:] == [["began", "d"], ["ended", "d"]]
    work(root, tasks)
    assert events(root) == seen  # nothing is run twice


def test_what_is_not_done_in_time_is_stopped_and_goes_on_in_the_next_call(root, monkeypatch):
    def reap_and_look_at_the_clock(rows):
        if ["began", "a"] in events(root):  # and can be stopped: the time is up
            rows.deadline = 0
        reap(rows)

    tasks = [Task("a/1", ("3000",)), Task("b/1", ("0",))]
    reap = Rows.reap
    with monkeypatch.context() as patched:
        patched.setattr(Rows, "reap", reap_and_look_at_the_clock)
        rows, done = work(root, tasks, slots=1)
    assert not done
    assert not rows.failed
    assert events(root) == [["began", "a"], ["stopped", "a"]]
    assert work(root, tasks, slots=1)[1]
    assert events(root)[2:] == [["went", "on", "a"], ["ended", "a"], ["began", "b"], ["ended", "b"]]


def test_one_that_fails_is_named_with_its_last_words_and_the_others_run(root, capsys):
    rows, done = work(root, [Task("a/1", ("0", "fail")), Task("b/1", ("0",))], slots=1)
    assert not done
    assert [task.name for task in rows.failed] == ["a/1"]
    said = capsys.readouterr().out
    assert "a/1: exit status 1\n    no such thing" in said
    assert "b/1: done, 90.00% after 35 epochs in 70 s" in said


def test_a_script_begins_only_where_its_time_is_left_and_is_done_once(root):
    (root / "bench").mkdir()
    (root / "bench" / "x.py").write_text("print('| 1 |')")
    task = Task("bench_x", ("bench/x.py",), alone=True, seconds=30)
    assert not work(root, [task], seconds=20)[1]
    assert not (root / "out" / "bench_x.log").exists()
    assert work(root, [task])[1]
    assert work(root, [task])[1]
    assert (root / "out" / "bench_x.log").read_text() == "| 1 |\n"


def test_the_order_and_every_row_has_its_command():
    tasks = gpu_rows.tasks(("data.num_workers=4",), rehearse=False)
    names = [task.name for task in tasks]
    assert names[:6] == [
        "cutout_rotate/1", "cutout_rotate/2", "cutout_rotate/3", "flagship/1", "flagship/2",
        "flagship/3",
    ]  # fmt: skip
    assert names[6:] == [
        "seed_e/1", "seed_d/1", "seed_c/1", "bench_step", "bench_end_to_end", "bench_data",
        "mixup/1", "cutmix/1", "trivialaugment/1",
    ]  # fmt: skip
    assert tasks[0].alone
    assert "data.num_workers=4" not in tasks[0].words  # the whole machine is its own
    assert tasks[1].words == (
        "aug=cutout_rotate", "trainer.max_epochs=35", "seed=2", "data.num_workers=4",
    )  # fmt: skip


def finished(folder: Path, epochs: int, wall_seconds: float):
    folder.mkdir(parents=True)
    metrics = {"status": "finished", "test": {"accuracy": 0.9}, "epochs": epochs}
    text = json.dumps(metrics | {"wall_seconds": wall_seconds})
    (folder / "metrics.json").write_text(text)


def test_the_papers_runs_get_what_fits_by_the_slowest_and_keep_it(tmp_path):
    assert gpu_rows.paper_epochs(tmp_path, 1000) == 0  # nothing is known of the speed
    finished(tmp_path / "flagship" / "1", 35, 100)
    finished(tmp_path / "flagship" / "2", 35, 175)  # 5 s an epoch
    assert gpu_rows.paper_epochs(tmp_path, 140) == 0  # 28 are too few
    assert gpu_rows.paper_epochs(tmp_path, 449) == 80
    assert gpu_rows.paper_epochs(tmp_path, 10) == 80


def test_two_hundred_are_enough(tmp_path):
    finished(tmp_path / "flagship" / "1", 35, 35)
    assert gpu_rows.paper_epochs(tmp_path, 1000) == 200


def test_the_archive_has_no_checkpoints_and_one_rows_events(tmp_path):
    for row in ("flagship", "seed_c"):
        run = tmp_path / row / "1"
        for name in ("metrics.json", "checkpoints/last.ckpt", "figures/loss.png", ".hydra/config.yaml",
                     "events.out.tfevents.1", "train.log"):  # fmt: skip
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text("x")
    with tarfile.open(gpu_rows.archive(tmp_path)) as tar:
        names = tar.getnames()
    of_c = {"metrics.json", "figures/loss.png", ".hydra/config.yaml", "train.log"}
    assert set(names) == {f"seed_c/1/{name}" for name in of_c} | {
        f"flagship/1/{name}" for name in of_c | {"events.out.tfevents.1"}
    }


def test_time_that_is_spent_and_rows_that_do_not_exist_are_refused(tmp_path, root):
    with pytest.raises(UserError, match="no_row: no such row; there is: bench_data"):
        gpu_rows.main(["--out", str(tmp_path / "o"), "no_row"])
    (tmp_path / "o" / "spent_seconds").write_text("1490")
    with pytest.raises(UserError, match=r"--minutes 25: 24\.8 are spent; give more"):
        gpu_rows.main(["--out", str(tmp_path / "o")])
