"""One job of a sweep: its failure is kept in its folder; which GPU it uses, and how many run at once.

Nothing here imports torch before a job does.
"""

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig

from augcam.atomic import write_atomically
from augcam.errors import UserError, explained
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import silence_terminal


@contextmanager
def sweep_job(folder: Path) -> Iterator[None]:
    """One job of a sweep: its failure is kept in its folder and does not stop the others.

    Raises:
        Exception: the job's own, where nothing can be written (a full disk): the launcher tells it.
    """
    config = HydraConfig.get()
    launcher = config.runtime.choices["hydra/launcher"]
    alone = launcher == "basic" or (launcher == "processes" and config.launcher.n_jobs == 1)
    if not alone:
        # Several jobs would write across each other; each has its train.log, and the sweep tells.
        silence_terminal()
        if launcher == "processes":  # SLURM and Ray hand out GPUs by themselves
            use_one_gpu()
    failure = RunFolder(folder).failure_file
    failure.unlink(missing_ok=True)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        message, _ = explained(error, "sweep.dir=DIR")
        lines = [message] if isinstance(error, UserError) else [message, traceback.format_exc()]
        try:
            write_atomically(failure, "\n\n".join(lines) + "\n")
        except OSError:
            raise error from None


def terminated(signum: int, frame: FrameType | None) -> None:
    """SIGTERM's handler while there are processes to hand it on to: it unwinds as Ctrl-C does."""
    sys.exit(128 + signum)


def stop(processes: Sequence[subprocess.Popen[bytes]], signum: signal.Signals) -> None:
    """Hand a signal on and wait while the runs save what they have; a second Ctrl-C too."""
    while any(process.poll() is None for process in processes):
        for process in processes:
            process.send_signal(signum)
        try:
            for process in processes:
                process.wait()
        except KeyboardInterrupt:
            continue


def use_one_gpu() -> None:
    """Keep one GPU for this process: the first that no other job of this machine has.

    Where all are taken, the process numbers go round.
    """
    import torch
    from filelock import FileLock, Timeout

    count = torch.cuda.device_count()
    if count < 2:
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    names = visible.split(",")
    chosen = names[os.getpid() % count]
    for name in names:
        lock = FileLock(Path(tempfile.gettempdir()) / f"augcam_{os.getuid()}_gpu_{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _LOCKS.append(lock)
        chosen = name
        break
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def jobs_at_once() -> int:
    """One job for each GPU; without one, a job for every two CPU cores."""
    import torch

    return torch.cuda.device_count() or max(1, (os.cpu_count() or 1) // 2)


_LOCKS: list[Any] = []  # held as long as the process lives
