"""Hydra's launcher for sweeps on this machine: every job in a process of its own.

A job that is killed - by the kernel for want of memory, by hand, by a full disk - ends alone: the
others go on, and the sweep lists it at its end. It lies in this package because Hydra takes plugins
from `hydra_plugins` alone.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import cloudpickle
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from augcam.errors import explained
from augcam.runs.run_folder import RunFolder
from augcam.sweeps.job import jobs_at_once, stop, terminated
from augcam.sweeps.overview import overview_of, validation_accuracy

log = logging.getLogger(__name__)


@dataclass
class ProcessesConfig:
    """`hydra/launcher=processes`.

    Attributes:
        n_jobs: how many jobs run at once; -1 is one for each GPU, or for every two CPU cores.
    """

    _target_: str = "hydra_plugins.augcam_processes.ProcessLauncher"
    n_jobs: int = 1


ConfigStore.instance().store(
    group="hydra/launcher", name="processes", node=ProcessesConfig, provider="augcam"
)


class _Job:
    """A job of the sweep, its process once it is started, and what that wrote to stderr."""

    def __init__(self, overrides: Sequence[str], config: DictConfig) -> None:
        self.overrides, self.config = list(overrides), config
        self.folder = RunFolder(Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir)
        self.process: subprocess.Popen[bytes] | None = None
        self.errors: IO[bytes] | None = None

    def start(self, run: bytes, at_once: int) -> None:
        """Start its process; with others beside it, it has a share of the cores and no terminal.

        Args:
            run: a pickled function without arguments: the job itself.
        """
        if self.folder.state() != "running":  # somebody else's, and refused in a moment
            self.folder.failure_file.unlink(missing_ok=True)
        environment = os.environ | {"AUGCAM_SWEEP_PROCESS": str(os.getpid())}
        if at_once > 1:
            self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when the job has ended
            share = max(1, (os.cpu_count() or 1) // at_once)
            environment.setdefault("OMP_NUM_THREADS", str(share))
        with tempfile.TemporaryFile() as payload:
            payload.write(run)
            payload.seek(0)
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import sys, pickle; pickle.load(sys.stdin.buffer)()",
                ],
                stdin=payload,
                stdout=self.errors,
                stderr=self.errors,
                env=environment,
                # Ctrl-C reaches the sweep, which hands it on: so it comes once, wherever it came from.
                process_group=0,
            )

    def problem(self) -> str:
        """How an ended process ended, in words; "" where it ended well, or was asked to stop."""
        assert self.process is not None
        code = self.process.returncode
        last = self._last_line()
        if code in (0, 130, 143):
            return ""
        if code < 0:
            name = signal.Signals(-code).name
            memory = "; the machine may have run out of memory" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{memory}" + (f" ({last})" if last else "")
        return last or f"its process ended with status {code}"

    def _last_line(self) -> str:
        if self.errors is None:
            return ""
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def result(self) -> JobReturn:
        """What Hydra's sweepers want to know: the validation accuracy, None where there is none."""
        done = JobReturn(
            overrides=self.overrides, cfg=self.config, hydra_cfg=self.config, task_name="train",
            working_dir=str(Path.cwd()), status=JobStatus.COMPLETED,
        )  # fmt: skip
        finished = self.process is not None and self.folder.state() == "finished"
        failed = self.folder.failure_file.exists()
        done.return_value = validation_accuracy(self.folder) if finished and not failed else None
        return done


class ProcessLauncher(Launcher):
    """Runs each job in a process of its own, `n_jobs` at a time.

    Ctrl-C and SIGTERM are handed on to the jobs that run; they save what they have and end.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's own method."""
        self.config, self.context, self.task = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all of these jobs, and say of each what came of it."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        jobs = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            jobs.append(_Job(overrides, config))
            log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        at_once = self.n_jobs if self.n_jobs > 0 else jobs_at_once()
        before = signal.signal(signal.SIGTERM, terminated)
        try:
            self._run(jobs, at_once)
        finally:
            signal.signal(signal.SIGTERM, before)
        return [job.result() for job in jobs]

    def _run(self, jobs: Sequence[_Job], at_once: int) -> None:
        overview = overview_of(self.context)
        waiting, running = deque(jobs), list[_Job]()
        # In an earlier launch: Optuna's sweeper makes one for each trial.
        if overview.failed_fast():
            waiting.clear()
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.popleft()
                    running.append(job)
                    self._start(job, at_once)
                for job in list(running):
                    if job.process is None or job.process.poll() is not None:
                        running.remove(job)
                        overview.job_ended(job.folder)
                        if job.process is not None and job.problem():
                            overview.job_failed(job.folder, job.problem())
                        if overview.failed_fast():
                            waiting.clear()
                time.sleep(0.05)
        except (KeyboardInterrupt, SystemExit) as ending:
            signum = signal.SIGINT if isinstance(ending, KeyboardInterrupt) else signal.SIGTERM
            stop([job.process for job in running if job.process], signum)
            raise

    def _start(self, job: _Job, at_once: int) -> None:
        # Not pickle: Hydra's state has resolvers in it, which are closures.
        run = partial(_work, self.context, job.config, self.task, Singleton.get_state())
        try:
            job.start(cloudpickle.dumps(run), at_once)
        except OSError as error:  # no room for its files, no memory for its process
            overview_of(self.context).job_failed(
                job.folder, f"cannot start: {error.strerror or error}"
            )


def _work(
    context: HydraContext, config: DictConfig, task: TaskFunction, state: dict[Any, Any]
) -> None:
    """The job, in its own process."""
    if sys.platform == "linux":
        # Where the sweep is killed outright, its jobs are asked to stop: PR_SET_PDEATHSIG.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        if os.getppid() != int(os.environ["AUGCAM_SWEEP_PROCESS"]):
            sys.exit(143)
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    done = run_job(
        hydra_context=context,
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if done.status != JobStatus.COMPLETED:
        sys.exit(explained(done._return_value)[0])
