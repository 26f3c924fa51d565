"""How far a sweep is, what failed, and its report: Hydra's callback around all of its jobs.

Nothing here imports torch before the report does.
"""

import shlex
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig

from augcam.atomic import write_atomically
from augcam.errors import UserError, explained
from augcam.runs.run_folder import RunFolder, run_folders
from augcam.viz.terminal import print_line

# What a job that has ended may be, beside finished.
UNFINISHED = ("failed", "died", "interrupted")


class Overview(Callback):
    """Hydra's callback around a whole sweep: how far it is, and at the end what failed.

    Args:
        start: a word that only this start of the sweep has; Hydra writes it into each of its jobs'
            `.hydra/hydra.yaml`. None takes every job of the folder for one of this start.
    """

    def __init__(self, start: str | None = None) -> None:
        self.start = start
        self._watch: Watch | None = None
        self._lock: BaseFileLock | None = None
        self._fail_fast = self._keeps_nothing = False

    def __getstate__(self) -> dict[str, Any]:
        # Launchers send callbacks to their workers; the watch and the lock stay here.
        return self.__dict__ | {"_watch": None, "_lock": None}

    def _locked(self, folder: Path) -> BaseFileLock:
        """Hold the sweep's folder: one process at a time runs its jobs."""
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(
                f"augcam: sweep.dir={folder}: another process is running this sweep; wait for it, or "
                "give another sweep.name",
                file=sys.stderr,
            )
            sys.exit(2)
        return lock

    def _unlock(self) -> None:
        if self._lock is not None:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin to watch the sweep's folder.

        Exits with 2 where the command asks for no job, or another process runs the same sweep.
        """
        global _current
        planned, empty = planned_jobs(config)
        if empty:
            for override in empty:
                print(f"augcam: {override}: no values, so no jobs", file=sys.stderr)
            sys.exit(2)  # Hydra swallows what is no exit
        self._lock = self._locked(Path(config.hydra.sweep.dir))
        self._fail_fast = bool(config.sweep.get("fail_fast"))
        self._keeps_nothing = bool(config.trainer.get("fast_dev_run"))
        self._watch = Watch(Path(config.hydra.sweep.dir), planned, self.start)
        self._watch.start()
        _current = self

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """List what failed, write the report, and exit with 1 where a job failed."""
        self.conclude()

    def conclude(self, problem: str = "") -> None:
        """As `on_multirun_end`; a `problem` of the launcher is listed too."""
        global _current
        _current = None
        assert self._watch is not None
        self._watch.stop()
        self._unlock()
        if problem:
            print_line(problem)
        if self._keeps_nothing:
            self._watch.look()
            failed = bool(self._watch.failed_jobs())
            if not failed:
                self._discard()
        else:
            failed = self._watch.conclude()
            if self._watch.all_refused():
                self._discard()
            else:
                self._watch.report()
        if failed or problem:
            sys.exit(1)

    def abandon(self) -> None:
        """End the watch without a word; a folder that no job has begun is removed."""
        global _current
        _current = None
        assert self._watch is not None
        self._watch.stop()
        self._unlock()
        self._remove_empty_folder()

    def _discard(self) -> None:
        """Remove the jobs, none of which has begun, and the sweep's folder if it holds nothing else."""
        assert self._watch is not None
        for job in self._watch.jobs():
            job.failure_file.unlink(missing_ok=True)
            job.discard()
        self._remove_empty_folder()

    def _remove_empty_folder(self) -> None:
        assert self._watch is not None
        left = {path.name for path in self._watch.folder.glob("*")}
        if left <= {"multirun.yaml"}:
            shutil.rmtree(self._watch.folder, ignore_errors=True)

    def job_ended(self, folder: RunFolder) -> None:
        """Count a job that this process has run, whatever it could write down itself."""
        assert self._watch is not None
        self._watch.own.add(folder.path)

    def job_failed(self, folder: RunFolder, reason: str) -> None:
        """Keep why a job's process ended: in its folder, or here where the disk takes nothing."""
        assert self._watch is not None
        if folder.failure_file.exists():
            return  # it has said so itself
        reason = reason.removeprefix("augcam: ")
        try:
            if folder.state() == "running":
                raise OSError("another process works there")
            folder.path.mkdir(parents=True, exist_ok=True)
            write_atomically(folder.failure_file, f"augcam: {reason}\n")
        except OSError as error:
            reason += f" (not written into its folder: {error.strerror or error})"
        self._watch.ended[folder.path] = reason

    def failed_fast(self) -> bool:
        """Whether a job has failed and `sweep.fail_fast` asks for no further ones."""
        assert self._watch is not None
        return self._fail_fast and bool(self._watch.failed_jobs())


_current: Overview | None = None  # of the sweep that this process runs


def overview_of(context: HydraContext) -> Overview:
    """The overview of a running sweep."""
    return next(c for c in context.callbacks.callbacks if isinstance(c, Overview))


@contextmanager
def concluded() -> Iterator[None]:
    """Around Hydra's main: a launcher that breaks down takes neither the list nor the report along.

    A sweep that was refused before its first job leaves no folder.
    """
    try:
        yield
    except (UserError, HydraException):
        if _current:
            _current.abandon()
        raise
    except Exception as error:
        if _current is None:
            raise
        _current.conclude(f"\nthe launcher broke down: {explained(error, 'sweep.dir=DIR')[0]}")


def planned_jobs(config: DictConfig) -> tuple[int, list[str]]:
    """How many jobs the sweep's command asks for, and its overrides that have no value to sweep."""
    if "n_trials" in config.hydra.sweeper:
        return int(config.hydra.sweeper.n_trials), []
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides(list(config.hydra.overrides.task))
    counts = {
        str(o.input_line): len(list(o.sweep_string_iterator()))
        for o in overrides
        if o.is_sweep_override()
    }
    return prod(counts.values()), [line for line, count in counts.items() if not count]


class Watch(threading.Thread):
    """Looks at the folders of a sweep every second and tells what changed.

    Args:
        folder: of the sweep.
        planned: how many jobs this command asks for.
        start: the word that the jobs of this start have in their `.hydra/hydra.yaml`; None: all do.

    Attributes:
        own: the folders of this start's jobs, as far as they are known.
        ended: why the process of a job ended, where the job itself could not write it.
    """

    def __init__(self, folder: Path, planned: int, start: str | None = None) -> None:
        super().__init__(daemon=True, name="sweep")
        self.folder, self.planned, self.start_word = folder, planned, start
        self.ended: dict[Path, str] = {}
        self._began = time.monotonic()
        self._done = threading.Event()
        self.own: set[Path] = set()
        self._finished_before = {run.path for run in run_folders(folder) if _finished(run.path)}
        self._announced: set[Path] = set()

    def run(self) -> None:
        """Until `stop`; Thread's own method."""
        while not self._done.wait(1):
            self.look()

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self.join()

    def jobs(self) -> list[RunFolder]:
        """The folders of the jobs that this command has started."""
        for run in run_folders(self.folder):
            if (
                run.path not in self.own
                and run.hydra_file.is_file()
                and self._is_own(run.hydra_file)
            ):
                self.own.add(run.path)
        return [RunFolder(path) for path in sorted(self.own | set(self.ended))]

    def _is_own(self, config: Path) -> bool:
        if self.start_word is None:
            return True
        try:
            return self.start_word in config.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False  # being written: the next look sees it

    def states(self) -> dict[RunFolder, str]:
        """How far each job is. A refused one has failed, even where its folder holds a finished run."""
        return {
            job: "failed" if job.failure_file.exists() or job.path in self.ended else job.state()
            for job in self.jobs()
        }

    def failed_jobs(self) -> list[RunFolder]:
        """The jobs that have failed so far."""
        return [job for job, state in self.states().items() if state == "failed"]

    def why(self, job: RunFolder, state: str) -> str:
        """Why a job did not finish, in a line."""
        if state == "failed":
            return job.why() or self.ended.get(job.path, "")
        return {"died": "ended unexpectedly, with no error recorded", "interrupted": "was stopped"}[
            state
        ]

    def log_of(self, job: RunFolder) -> Path:
        """Where to read on: the failure, or what the job wrote until then."""
        files = job.failure_file, job.log_file
        return next((file for file in files if file.is_file()), job.path)

    def look(self) -> None:
        """Tell of every job that has ended since the last look."""
        states = self.states()
        ended = {
            job: state
            for job, state in states.items()
            if state in ("finished", "failed") and job.path not in self._announced
        }
        # Until a job has begun, the folders may all be removed in the end: what they say is told here.
        kept = any(job.config_file.is_file() for job in states)
        for job, state in ended.items():
            self._announced.add(job.path)
            if state == "failed":
                more = [str(self.log_of(job))] if kept else job.problems()[1:]
                lines = [f"failed   {job.path.name}: {self.why(job, state)}", *more]
                print_line("\n         ".join(lines))
        if ended:
            print_line(self.progress(states))

    def progress(self, states: dict[RunFolder, str]) -> str:
        """In a line: jobs done, failed, running; time to go; the best so far."""
        from augcam.viz.words import duration

        count = Counter(states.values())
        parts = [f"{count['finished']} of {self.planned} done"]
        parts += [f"{count[state]} {state}" for state in ("failed", "running") if count[state]]
        finished = [job for job, state in states.items() if state == "finished"]
        # Those that were finished before cost no time: what is left is reckoned from the others.
        worked = sum(job.path not in self._finished_before for job in finished)
        left = self.planned - count["finished"] - count["failed"]
        if worked and left > 0:
            seconds = (time.monotonic() - self._began) / worked * left
            parts.append(f"about {duration(seconds)} to go")
        scores = {job.path.name: validation_accuracy(job) for job in finished}
        known = {name: score for name, score in scores.items() if score is not None}
        if known:
            best = max(known, key=lambda name: known[name])
            parts.append(f"best so far {best}: {known[best]:.2%} on validation")
        return "sweep    " + ", ".join(parts)

    def all_refused(self) -> bool:
        """Whether no job of all has begun: each was refused, as a wrong value is."""
        states = self.states()
        return len(states) == self.planned and not any(j.config_file.is_file() for j in states)

    def conclude(self) -> bool:
        """A last look; list what did not finish, with its log, and how to start the sweep again.

        Returns:
            Whether there is any such job.
        """
        self.look()
        states = self.states()
        unfinished = {job: state for job, state in states.items() if state in UNFINISHED}
        missing = max(0, self.planned - len(states))
        refused = self.all_refused()
        if unfinished:
            lines = [f"\n{len(unfinished)} of {self.planned} jobs failed:"]
            for job, state in unfinished.items():
                lines.append(f"  {job.path.name}: {self.why(job, state)}")
                lines += [] if refused else [f"    {self.log_of(job)}"]
        elif missing:
            lines = [""]
        else:
            return False
        if missing:
            lines.append(f"{missing} of {self.planned} jobs did not start")
        if refused:
            lines.append("No job started; nothing was kept.")
        else:
            again = shlex.quote(str(self.folder))
            lines.append(f"To try them again: the same command with sweep.dir={again}")
        print_line("\n".join(lines))
        return True

    def report(self) -> None:
        """The page that compares the sweep's runs."""
        try:
            from augcam.report.write import write_report

            page = write_report([self.folder])
        except Exception as error:  # the runs are done and kept, whatever the page may lack
            message, _ = explained(error)
            again = f"augcam report {shlex.quote(str(self.folder))}"
            print_line(f"no report: {message}\n         {again} tries again")
        else:
            print_line(f"report   {page}")


def _finished(path: Path) -> bool:
    return RunFolder(path).state() == "finished"


def validation_accuracy(job: RunFolder) -> float | None:
    """Of a finished run, 0..1; None where it validated nothing, or its metrics cannot be read."""
    try:
        metrics = job.metrics() or {}
    except (UserError, OSError):
        return None
    val = metrics.get("val")
    accuracy = val.get("accuracy") if isinstance(val, dict) else None
    return accuracy if isinstance(accuracy, float) else None
