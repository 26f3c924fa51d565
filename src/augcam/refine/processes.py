"""One run in a process of its own, as a sweep's jobs have; what it prints is in its train.log."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection

from augcam.errors import RunError
from augcam.runs.run_folder import RunFolder
from augcam.sweeps.job import stop, terminated


def train_in_process(folder: RunFolder, trusted: Collection[str] = ()) -> None:
    """Train the run whose config lies in the folder, or go on with it.

    Ctrl-C and SIGTERM are handed on: the run keeps what it has.

    Args:
        trusted: packages that the run's config may name.

    Raises:
        RunError: it has not finished.
    """
    trust = [f"trust=[{','.join(trusted)}]"] if trusted else []
    with tempfile.TemporaryFile() as errors:
        # Its table of results names test accuracies, which nobody is to look at yet.
        process = subprocess.Popen(
            [sys.executable, "-m", "augcam", "train", f"run={folder.path.absolute()}", *trust],
            stdout=subprocess.DEVNULL, stderr=errors, process_group=0,
        )  # fmt: skip
        _wait(process)
        if folder.state() == "finished":
            return
        errors.seek(0)
        said = errors.read()[-4000:].decode(errors="replace").strip().splitlines()
    why = folder.why() or (said[-1].removeprefix("augcam: ") if said else folder.state())
    raise RunError(f"{folder}: {why}\nthe same command goes on from here")


def _wait(process: subprocess.Popen[bytes]) -> None:
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        process.wait()
    except (KeyboardInterrupt, SystemExit) as ending:
        interrupted = isinstance(ending, KeyboardInterrupt)
        stop([process], signal.SIGINT if interrupted else signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
