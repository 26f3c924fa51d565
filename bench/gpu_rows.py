"""The rows of docs/results.md on one large GPU, in the order of their worth, within a given time.

    python bench/gpu_rows.py --minutes 25 --out DIR
    python bench/gpu_rows.py --minutes 25 --out DIR --piece-seconds 580    # again, until all is done
    python bench/gpu_rows.py --rehearse --out DIR                          # tiny, on a CPU
    python bench/gpu_rows.py --out DIR cutout_rotate flagship              # these rows alone

Where a command may last only so long, `--piece-seconds` ends it in time: runs are stopped with SIGTERM,
and the next call goes on with them. Runs share the card, several at a time; what measures time has the
machine to itself. `--minutes` counts all calls together. The two runs of the paper come last: they get
as many epochs as still fit, 200 at most. A row whose choice conf/ does not have is left out.

DIR/NAME/SEED are run folders, which `bench/results.py keep` takes. Each call ends with DIR/rows.tar.gz:
metrics.json, configs, logs and figures of all runs, the flagship's events, no checkpoints.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes import BY_KEY

from augcam.cli.errors import reported
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
STOPPING = 25  # seconds that a stopped run gets for its checkpoint, and the archive for its writing
RUN_MEMORY = 10 * 2**30  # bytes of the card: a ResNet18, batch 128, needs less than half
RUN_CORES = 4  # fewer, and the card waits for augmented images
FEWEST_EPOCHS = 30  # of the paper's runs; a shorter one says nothing about theirs

# Row and seeds, in the order of worth. The first run has the machine to itself: its time is a result.
ALONE = (("cutout_rotate", 1),)
TOGETHER = (
    *(("cutout_rotate", seed) for seed in (2, 3)),
    *(("flagship", seed) for seed in (1, 2, 3)),
    *((row, 1) for row in ("seed_e", "seed_d", "seed_c")),
)
MIXED = (("mixup", 1), ("cutmix", 1), ("trivialaugment", 1))
PAPER = (("paper_crop_flip", 1), ("paper_crop_flip_cutout", 1))

TINY = (
    "model.width=8", "data.batch_size=32", "data.num_workers=0", "trainer.max_epochs=2",
    "trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
    "trainer.accelerator=cpu", "explain.images=1", "preview.samples=1",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One run, or one script that measures.

    `seconds` is what a script takes at most; it begins only where that much is left. A run is 0: it can
    be stopped and goes on.
    """

    name: str
    words: tuple[str, ...]
    alone: bool = False
    seconds: int = 0

    def is_done(self, out: Path) -> bool:
        if self.seconds:
            return (out / self.name / "done").is_file()
        return RunFolder(out / self.name).state() == "finished"

    def command(self, out: Path) -> list[str]:
        """What is called: a script, train.py in a new folder, or train.py to go on in its folder."""
        if self.seconds:
            return [sys.executable, str(ROOT / self.words[0]), *self.words[1:]]
        train = [sys.executable, str(ROOT / "train.py")]
        if RunFolder(out / self.name).state() == "foreign":
            return [*train, *self.words, f"hydra.run.dir={out / self.name}"]
        return [*train, f"run={out / self.name}"]


def scripts(rehearse: bool) -> Iterator[Task]:
    """The measurements: a step, whole commands, the loaders."""
    words = {
        "step": ("--rounds=1", "--steps=1", "model.width=8", "data.batch_size=8")
        if rehearse
        else (),
        "end_to_end": ("--rounds=1", "model.width=8", "data.batch_size=8", "explain.images=1")
        if rehearse
        else ("--rounds=1", "trainer.max_epochs=10"),
        "data": ("--images=256", "--rounds=2", "--train-rounds=0") if rehearse else ("--rounds=3",),
    }
    seconds = 90 if rehearse else 300
    for name, more in words.items():
        yield Task(f"bench_{name}", (f"bench/{name}.py", *more), alone=True, seconds=seconds)


def runs(names: Sequence[tuple[str, int]], extra: Sequence[str], alone: bool) -> Iterator[Task]:
    for row, seed in names:
        if row in BY_KEY and BY_KEY[row].is_available():
            words = (*BY_KEY[row].overrides.split(), f"seed={seed}", *extra)
            yield Task(f"{row}/{seed}", words, alone)


def tasks(extra: Sequence[str], rehearse: bool) -> list[Task]:
    """All but the paper's, in their order."""
    return [
        *runs(ALONE, TINY if rehearse else (), alone=True),
        *runs(TOGETHER, extra, alone=False),
        *scripts(rehearse),
        *runs(MIXED, extra, alone=False),
    ]


class Rows:
    """One call: it starts what fits, stops what is left at the deadline."""

    def __init__(self, out: Path, slots: int, deadline: float) -> None:
        self.out, self.slots, self.deadline = out, slots, deadline
        self.running: dict[Task, subprocess.Popen[bytes]] = {}
        self.failed: list[Task] = []

    def work(self, tasks: Sequence[Task]) -> bool:
        """Run what is not done. Whether all is done."""
        waiting = [task for task in tasks if not task.is_done(self.out)]
        while time.monotonic() < self.deadline and (waiting or self.running):
            for task in self.startable(waiting):
                waiting.remove(task)
                self.start(task)
            if not self.running:
                break  # what waits takes longer than what is left
            time.sleep(0.2)
            self.reap()
        self.stop()
        return all(task.is_done(self.out) for task in tasks)

    def startable(self, waiting: Sequence[Task]) -> list[Task]:
        """The next tasks in their order, as many as have room."""
        chosen: list[Task] = []
        busy = list(self.running)
        for task in waiting:
            full = len(busy) >= (1 if task.alone else self.slots)
            if full or any(other.alone for other in busy):
                break
            if time.monotonic() + task.seconds < self.deadline:
                chosen.append(task)
                busy.append(task)
        return chosen

    def start(self, task: Task) -> None:
        folder = self.out / task.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        if task.seconds:
            folder.mkdir(exist_ok=True)
        words = task.command(self.out)
        say(f"{task.name}: {' '.join(words[1:])}")
        with self.log(task).open("ab") as log:
            self.running[task] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            )  # fmt: skip

    def log(self, task: Task) -> Path:
        """What the task printed."""
        return self.out / f"{task.name.replace('/', '_')}.log"

    def reap(self) -> None:
        """Note what has ended."""
        for task, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[task]
            if process.returncode == 0 and task.seconds:
                (self.out / task.name / "done").touch()
            if task.is_done(self.out):
                say(f"{task.name}: done{result(self.out / task.name)}")
            else:
                self.failed.append(task)
                last = self.log(task).read_text(errors="replace").splitlines()[-15:]
                say("\n    ".join([f"{task.name}: exit status {process.returncode}", *last]))

    def stop(self) -> None:
        """SIGTERM to all; who has not ended by then is killed, and has its last epoch's checkpoint."""
        for task, process in self.running.items():
            say(f"{task.name}: stopped")
            process.terminate()
        end = time.monotonic() + STOPPING
        for process in self.running.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


def result(folder: Path) -> str:
    """`, 94.21% after 35 epochs in 88 s`, of a run that was tested."""
    metrics = RunFolder(folder).metrics() or {}
    if not metrics.get("test"):
        return ""
    return (
        f", {metrics['test']['accuracy']:.2%} after {metrics['epochs']} epochs in "
        f"{metrics['wall_seconds']:.0f} s"
    )


def paper_epochs(out: Path, seconds: float) -> int:
    """The epochs of the paper's two runs that fit into what is left, in tens; 0 where too few do.

    Counted by the slowest of the runs that shared the card: two of them are no slower. Settled once,
    in DIR/paper_epochs: both runs have the same, also in later calls.
    """
    settled = out / "paper_epochs"
    if settled.exists():
        return int(settled.read_text())
    speeds = [
        metrics["epochs"] / metrics["wall_seconds"]
        for row, seed in TOGETHER
        if (metrics := RunFolder(out / row / str(seed)).metrics()) and metrics.get("test")
    ]
    fit = int(seconds * min(speeds, default=0.0)) // 10 * 10
    if fit < FEWEST_EPOCHS:
        return 0
    settled.write_text(str(min(200, fit)))
    return min(200, fit)


def archive(out: Path) -> Path:
    """What `bench/results.py keep` and the pages need of every run, without checkpoints."""
    target = out / "rows.tar.gz"
    with tarfile.open(target, "w:gz") as tar:
        for path in sorted(out.rglob("*")):
            within = path.relative_to(out)
            wanted = path.suffix in {".log", ".json", ".yaml", ".png"} or (
                path.name.startswith("events.") and within.parts[0] == "flagship"
            )
            if wanted and path.is_file():
                tar.add(path, within)
    return target


def say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


def side_by_side() -> int:
    """How many runs share the machine."""
    import torch

    cores = os.cpu_count() or 1
    if not torch.cuda.is_available():
        return 2
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(free // RUN_MEMORY, cores // RUN_CORES))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that lasts")
    parser.add_argument("--minutes", type=float, default=25, help="of all calls together")
    parser.add_argument("--piece-seconds", type=float, help="of this call; default: what is left")
    parser.add_argument("--rehearse", action="store_true", help="tiny runs on the CPU")
    parser.add_argument("rows", nargs="*", help="these alone, such as flagship or bench_step")
    asked = parser.parse_args(words)
    out = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    spent_file = out / "spent_seconds"
    spent = float(spent_file.read_text()) if spent_file.exists() else 0.0
    began = time.monotonic()
    left = 60 * asked.minutes - spent
    if left < 2 * STOPPING:
        raise UserError(f"--minutes {asked.minutes:g}: {spent / 60:.1f} are spent; give more")
    deadline = began + min(left, asked.piece_seconds or left) - STOPPING

    slots = side_by_side()
    workers = max(1, (os.cpu_count() or 1) // slots - 1)
    extra = TINY if asked.rehearse else (f"data.num_workers={workers}",)
    chosen = tasks(extra, asked.rehearse)
    known = {task.name.split("/")[0] for task in chosen} | {row for row, _ in PAPER}
    if unknown := set(asked.rows) - known:
        raise UserError(f"{', '.join(unknown)}: no such row; there is: {', '.join(sorted(known))}")

    def asked_for(tasks: Sequence[Task]) -> list[Task]:
        return [t for t in tasks if not asked.rows or t.name.split("/")[0] in asked.rows]

    rows = Rows(out, slots, deadline)
    done = rows.work(asked_for(chosen))
    if done or rows.failed:
        epochs = paper_epochs(out, began + left - STOPPING - time.monotonic())
        length = () if asked.rehearse else (f"trainer.max_epochs={epochs}",)
        paper = asked_for(list(runs(PAPER, (*extra, *length), alone=False)))
        if epochs or asked.rehearse:
            done = rows.work(paper) and done
        elif paper:
            done = False
            say(f"paper: fewer than {FEWEST_EPOCHS} epochs fit into what is left")
    spent_file.write_text(f"{spent + time.monotonic() - began:.0f}")
    size = archive(out).stat().st_size / 2**20
    failed = ", ".join(task.name for task in rows.failed)
    say(f"{'all done' if done else 'not all done'}; {out / 'rows.tar.gz'}, {size:.1f} MiB")
    if failed:
        say(f"failed: {failed}")
    return int(bool(failed))


if __name__ == "__main__":
    with reported():
        sys.exit(main())
