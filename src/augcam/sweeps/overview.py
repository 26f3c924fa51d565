"""Many runs from one command: how their folders are named, how far they are, what failed.

A sweep's state is in its folders alone, so it is told the same way whether its jobs run one after
the other, side by side (joblib) or on other machines (submitit, Ray), and a sweep that is started
again finds what is done. Nothing here imports torch before a job does.
"""

import shlex
import sys
import threading
import time
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from augcam.errors import explained
from augcam.runs.run_folder import RunFolder
from augcam.sweeps.job import jobs_at_once

OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, use_cache=True, replace=True)


class Overview(Callback):
    """Hydra's callback around a whole sweep: how far it is, and at the end what failed."""

    def __init__(self) -> None:
        self._watch: Watch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_watch": None}  # launchers send callbacks to their workers; the watch stays here

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin to watch the sweep's folder."""
        self._watch = Watch(Path(config.hydra.sweep.dir), planned_jobs(config))
        self._watch.start()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """List what failed, write the report, and exit with 1 where a job failed."""
        assert self._watch is not None
        self._watch.stop()
        failed = self._watch.conclude()
        self._watch.report()
        if failed:
            sys.exit(1)


def planned_jobs(config: DictConfig) -> int:
    """How many jobs the sweep's command asks for."""
    if "n_trials" in config.hydra.sweeper:
        return int(config.hydra.sweeper.n_trials)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides(list(config.hydra.overrides.task))
    return prod(len(list(o.sweep_string_iterator())) for o in overrides if o.is_sweep_override())


class Watch(threading.Thread):
    """Looks at the folders of a sweep every second and tells what changed.

    Args:
        folder: of the sweep.
        planned: how many jobs this command asks for.
    """

    def __init__(self, folder: Path, planned: int) -> None:
        super().__init__(daemon=True, name="sweep")
        self.folder, self.planned = folder, planned
        self.began = time.time()
        self._done = threading.Event()
        self._told: set[Path] = set()

    def run(self) -> None:
        """Until `stop`; Thread's own method."""
        while not self._done.wait(1):
            self.look()

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self.join()

    def jobs(self) -> list[RunFolder]:
        """The folders whose job this command has started: Hydra writes their config anew."""
        found = []
        for config in sorted(self.folder.glob("*/.hydra/hydra.yaml")):
            # A second of slack: file systems keep time less finely than processes.
            if config.stat().st_mtime >= self.began - 1:
                found.append(RunFolder(config.parents[1]))
        return found

    def states(self) -> dict[RunFolder, str]:
        """How far each job is. A refused one has failed, even where its folder holds a finished run."""
        return {job: "failed" if job.failure_file.exists() else job.state() for job in self.jobs()}

    def look(self) -> None:
        """Tell of every job that has ended since the last look."""
        states = self.states()
        ended = {
            job: state
            for job, state in states.items()
            if state in ("finished", "failed") and job.path not in self._told
        }
        for job, state in ended.items():
            self._told.add(job.path)
            if state == "failed":
                say(f"failed   {job.path.name}: {job.why()}\n         {job.failure_file}")
        if ended:
            say(self.progress(states))

    def progress(self, states: dict[RunFolder, str]) -> str:
        """In a line: jobs done, failed, running; time to go; the best so far."""
        count = Counter(states.values())
        parts = [f"{count['finished']} of {self.planned} done"]
        parts += [f"{count[state]} {state}" for state in ("failed", "running") if count[state]]
        finished = [job for job, state in states.items() if state == "finished"]
        # Those that were finished before cost no time: what is left is reckoned from the others.
        worked = sum(job.metrics_file.stat().st_mtime >= self.began for job in finished)
        left = self.planned - count["finished"] - count["failed"]
        if worked and left > 0:
            parts.append(f"about {duration((time.time() - self.began) / worked * left)} to go")
        scores = {job.path.name: validation_accuracy(job) for job in finished}
        known = {name: score for name, score in scores.items() if score is not None}
        if known:
            best = max(known, key=lambda name: known[name])
            parts.append(f"best so far {best}: {known[best]:.2%} on validation")
        return "sweep    " + ", ".join(parts)

    def conclude(self) -> list[RunFolder]:
        """A last look; list what failed, with its log, and say how to start the sweep again."""
        self.look()
        failed = [job for job, state in self.states().items() if state == "failed"]
        if failed:
            lines = [f"\n{len(failed)} of {self.planned} jobs failed:"]
            for job in failed:
                lines += [f"  {job.path.name}: {job.why()}", f"    {job.failure_file}"]
            again = shlex.quote(str(self.folder))
            lines.append(f"To try them again: the same command with sweep.dir={again}")
            say("\n".join(lines))
        return failed

    def report(self) -> None:
        """The page that compares the sweep's runs."""
        try:
            from augcam.report.write import write_report

            page = write_report([self.folder])
        except Exception as error:  # the runs are done and kept, whatever the page may lack
            message, _ = explained(error)
            say(f"no report: {message}\n         python -m augcam.report {self.folder} tries again")
        else:
            say(f"report   {page}")


def validation_accuracy(job: RunFolder) -> float | None:
    """Of a finished run, 0..1; None where it validated nothing."""
    return ((job.metrics() or {}).get("val") or {}).get("accuracy")


def say(text: str) -> None:
    """Above the progress bar of a running job, if there is one."""
    from rich import get_console

    get_console().print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time span in words that suit its length."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
