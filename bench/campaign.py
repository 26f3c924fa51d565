"""A queue of long runs in the background, at the lowest weight; started again, it goes on.

    python bench/campaign.py start outputs/campaign bench/campaign.txt
    python bench/campaign.py status outputs/campaign
    python bench/campaign.py pause outputs/campaign     # frees the cores; `resume` gives them back
    python bench/campaign.py stop outputs/campaign      # after the batch, with a checkpoint

A line of the queue is a run: its row of docs/results.md, a slash, its name, and what is passed to
train.py. Or it is a study of several sweeps: its name and its script.

    cutout_rotate/1 aug=cutout_rotate trainer.max_epochs=35 seed=1
    ablation bench/ablation.py

Each has the folder of its name in outputs/campaign. A run that was killed goes on from its last
checkpoint, which is at most an epoch old; one that has finished is skipped. The queue is read anew
before each run, so that it can grow. `--source DIR` trains with the code of another checkout, which
nobody edits meanwhile, and keeps what has finished in its docs/results.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from augcam.cli.errors import reported
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder, run_folders

ROOT = Path(__file__).parents[1]
TRIES = 3  # of a run that is killed by something else, such as a want of memory


@dataclass(frozen=True)
class Job:
    """One line of the queue: a run, `row/name` and overrides, or a study, `row` and its script."""

    row: str
    name: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.row}/{self.name}" if self.name else self.row

    def is_done(self, folder: Path) -> bool:
        if not self.name:
            return (folder / "done").is_file()
        return RunFolder(folder).state() == "finished"

    def command(self, folder: Path, source: Path) -> list[str]:
        """The call that begins it, or goes on with it."""
        if not self.name:
            return [sys.executable, str(source / self.words[0]), str(folder)]
        train = [sys.executable, str(source / "train.py")]
        if RunFolder(folder).state() == "foreign":
            return [*train, *self.words, f"hydra.run.dir={folder}"]
        return [*train, f"run={folder}"]


def read_queue(path: Path) -> list[Job]:
    """The jobs of a queue file, in its order; what follows a `#` is a comment.

    Raises:
        UserError: the file is missing, a line is no run and no study, or a name comes twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such queue; give a file of lines ROW/NAME OVERRIDES")
    jobs = []
    for line in path.read_text().splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        row, _, name = words[0].partition("/")
        is_study = not name and len(words) == 2 and words[1].endswith(".py")
        if not (is_study or name) or not all(part.isidentifier() for part in (row, f"_{name}")):
            raise UserError(
                f"{path}: {' '.join(words)}: give ROW/NAME OVERRIDES, such as cutout_rotate/1 "
                "aug=cutout_rotate, or NAME SCRIPT"
            )
        jobs.append(Job(row, name, tuple(words[1:])))
    names = [str(job) for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: {name} comes twice; give each run a name of its own")
    return jobs


class Campaign:
    """The process that works through a queue: one run at a time."""

    def __init__(self, folder: Path, queue: Path, source: Path) -> None:
        self.folder, self.queue, self.source = folder, queue, source
        self.stopping = False
        self.child: subprocess.Popen[bytes] | None = None

    def work(self) -> int:
        """Every run of the queue. 0 when all have finished, 1 if some failed, 143 if stopped."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        done: set[Job] = set()
        failed = False
        while waiting := [job for job in read_queue(self.queue) if job not in done]:
            job = waiting[0]
            done.add(job)
            failed |= not self.finish(job)
            if self.stopping:
                return 128 + signal.SIGTERM
        note("the queue is empty")
        return int(failed)

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """Pass the signal on; a run writes its checkpoint and ends, a study ends its runs."""
        self.stopping = True
        if self.child and self.child.poll() is None:
            self.child.terminate()

    def finish(self, job: Job) -> bool:
        """Bring one job to its end and keep it. Whether it has finished."""
        folder = self.folder / job.row / job.name
        if job.is_done(folder):
            return True
        for _ in range(TRIES):
            while RunFolder(folder).state() == "running" and not self.stopping:
                time.sleep(5)  # left by a campaign that was killed
            if self.stopping:
                return False
            status = self.call(job.command(folder, self.source))
            note(f"{job}: exit status {status}")
            if self.stopping or status >= 0:
                break
        if status == 0 and not job.name:
            (folder / "done").touch()
        if not job.is_done(folder):
            return False
        keep = [sys.executable, str(self.source / "bench/results.py"), "keep"]
        return self.call([*keep, job.row, str(folder)]) == 0

    def call(self, words: Sequence[str]) -> int:
        note(" ".join(words))
        self.child = subprocess.Popen(words, env=environment(self.source))
        return self.child.wait()


def environment(source: Path) -> Mapping[str, str]:
    """The environment in which the code of a checkout wins over an installed one."""
    return os.environ | {"PYTHONPATH": str(source / "src")}


def note(words: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}", flush=True)


def lowest_weight() -> None:
    """Let everything else on the machine go first.

    Where the kernel groups processes by session (autogroup), `nice` only counts within a group, and
    the group has a nice value of its own. Only a session's leader sets it: the session of a terminal
    has other processes too.
    """
    os.nice(19)
    group = Path("/proc/self/autogroup")
    if group.exists() and os.getsid(0) == os.getpid():
        group.write_text("19")


def running(folder: Path) -> int | None:
    """The process that works in the folder, which leads a session; None if none does."""
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            return None
    except Timeout:
        return int((folder / "campaign.pid").read_text())


def run(folder: Path, queue: Path, source: Path) -> int:
    """Work through the queue in this process.

    Raises:
        UserError: another process works in the folder, or the queue cannot be read.
    """
    read_queue(queue)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            (folder / "campaign.pid").write_text(str(os.getpid()))
            lowest_weight()
            return Campaign(folder, queue, source).work()
    except Timeout:
        raise UserError(f"{folder}: a campaign is working there; see `status`") from None


def start(folder: Path, queue: Path, source: Path) -> None:
    """`run` in a session of its own, with its output in campaign.log."""
    read_queue(queue)
    if folder.is_dir() and running(folder):
        raise UserError(f"{folder}: a campaign is working there; see `status`")
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, __file__, "run", str(folder), str(queue), f"--source={source}"]
    with (folder / "campaign.log").open("a") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=environment(ROOT),
        )  # fmt: skip
    print(f"started as process {process.pid}; its log is {folder / 'campaign.log'}")


def send(folder: Path, signum: int) -> None:
    """A signal to the campaign; to pause and to resume, to its run too.

    Raises:
        UserError: no campaign works there.
    """
    pid = running(folder) if folder.is_dir() else None
    if pid is None:
        raise UserError(f"{folder}: no campaign is working there; begin with `start`")
    if signum == signal.SIGTERM:
        os.killpg(pid, signal.SIGCONT)  # a stopped process would not hear it
        os.kill(pid, signum)
    else:
        os.killpg(pid, signum)


def status(folder: Path) -> None:
    """The state of every run, and where it is."""
    pid = running(folder) if folder.is_dir() else None
    print(f"process {pid}" if pid else "no process is working there")
    for run_folder in run_folders(folder):
        log = run_folder.log_file
        lines = log.read_text().splitlines() if log.is_file() else []
        last = [line.partition(": ")[2].strip() for line in lines if "  epoch " in line][-1:]
        print(f"{run_folder.path.relative_to(folder)}: {run_folder.state()}", *last)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "run"):
        begin = commands.add_parser(name)
        begin.add_argument("folder", type=Path)
        begin.add_argument("queue", type=Path)
        begin.add_argument("--source", type=Path, default=ROOT)
    for name in ("status", "pause", "resume", "stop"):
        commands.add_parser(name).add_argument("folder", type=Path)
    given = parser.parse_args(words)
    folder = given.folder.absolute()
    match given.command:
        case "start":
            start(folder, given.queue.absolute(), given.source.absolute())
        case "run":
            return run(folder, given.queue.absolute(), given.source.absolute())
        case "status":
            status(folder)
        case "pause":
            send(folder, signal.SIGSTOP)
        case "resume":
            send(folder, signal.SIGCONT)
        case "stop":
            send(folder, signal.SIGTERM)
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main())
