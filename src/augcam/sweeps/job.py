"""Many runs from one command: how their folders are named, how far they are, what failed.

A sweep's state is in its folders alone, so it is told the same way whether its jobs run one after
the other, side by side (joblib) or on other machines (submitit, Ray), and a sweep that is started
again finds what is done. Nothing here imports torch before a job does.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from augcam.errors import UserError, explained
from augcam.runs.atomic import write_atomically
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import silence_terminal


@contextmanager
def sweep_job(folder: Path) -> Iterator[None]:
    """One job of a sweep: its failure is kept in its folder and does not stop the others."""
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    if launcher != "basic":
        # Several jobs would write across each other; each has its train.log, and the sweep tells.
        silence_terminal()
    if launcher == "joblib":  # SLURM and Ray hand out GPUs by themselves
        claim_gpu()
    failure = RunFolder(folder).failure_file
    failure.unlink(missing_ok=True)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        message, _ = explained(error)
        lines = [message] if isinstance(error, UserError) else [message, traceback.format_exc()]
        write_atomically(failure, "\n\n".join(lines) + "\n")


@cache
def claim_gpu() -> None:
    """Keep one GPU for this process and its jobs: the first that no other such process has.

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
        _HELD.append(lock)
        chosen = name
        break
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def jobs_at_once() -> int:
    """One job for each GPU; without one, a job for every two CPU cores."""
    import torch

    return torch.cuda.device_count() or max(1, (os.cpu_count() or 1) // 2)


_HELD: list[Any] = []  # locks live as long as the process
