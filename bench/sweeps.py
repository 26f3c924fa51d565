"""Several sweeps of train.py that differ in one thing each, two at a time, one core each."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]


def sweeps(budget: str, seeds: str, changes: Mapping[str, str], folder: str) -> int:
    """Each change over the seeds, in folder/KEY; runs that have finished are skipped.

    SIGTERM reaches the sweeps, and their runs keep what they have.

    Args:
        budget, seeds: words for train.py that all have.
        changes: key -> the words that it adds.

    Returns:
        0; 1 where one failed; 143 where SIGTERM came.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    stopping = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopping.set()
        for process in list(running.values()):
            process.terminate()

    def sweep(key: str) -> int:
        if stopping.is_set():
            return 1
        command = [
            sys.executable, str(ROOT / "train.py"), "-m", *budget.split(), seeds,
            *changes[key].split(), f"name={key}", f"sweep.dir={folder}/{key}",
        ]  # fmt: skip
        with Path(folder, f"{key}.log").open("a") as log:
            print(" ".join(command[1:]), file=log, flush=True)
            one_core = os.environ | {"OMP_NUM_THREADS": "1"}
            running[key] = subprocess.Popen(command, stdout=log, stderr=log, env=one_core)
            return running[key].wait()

    signal.signal(signal.SIGTERM, stop)
    with ThreadPoolExecutor(2) as pool:
        # As a list: every change gets its turn, also after one that failed.
        statuses = list(pool.map(sweep, changes))
    return 128 + signal.SIGTERM if stopping.is_set() else int(any(statuses))
