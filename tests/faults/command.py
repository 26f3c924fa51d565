"""A command in this process, watched: how it ended, what it wrote where, and what it executed."""

import contextlib
import faulthandler
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from augcam.cli.main import main
from augcam.config import build
from augcam.sweeps import overview

STATUSES = {0, 1, 2, 130, 143}
SECONDS = 300  # in which an example of milliseconds ends on the slowest machine; then it hangs
EXECUTED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")


class Started(BaseException):
    """The request was good: here the long work would begin. No `except Exception` takes it."""


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status; None where what it raised was nobody's to report.
        started: whether it came to where the long work would begin.
        written: files and folders that it opened for writing, made, moved or removed.
        executed: processes and connections.
    """

    arguments: Sequence[str]
    status: int | None = 0
    started: bool = False
    out: str = ""
    err: str = ""
    written: list[Path] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What no command may do, whatever it was asked for."""
        found = []
        if self.status not in STATUSES:
            found.append(f"status {self.status}")
        for word in ("Traceback", "Exception ignored"):
            if word in self.out + self.err:
                found.append(f"a {word}")
        lines = self.err.strip().splitlines()
        if self.status == 2:
            if not 1 <= len(lines) <= 40:
                found.append(f"{len(lines)} lines")
            if not all(line.startswith("augcam: ") for line in lines):
                found.append("a line without augcam:")
        if any(len(line) > 700 for line in lines):
            found.append("a line of over 700 characters")
        if self.executed:
            found.append(f"executed {self.executed}")
        return [f"{problem}: {list(self.arguments)}\n{self.err[-3000:]}" for problem in found]


_current: Ended | None = None


def _audit(event: str, arguments: tuple) -> None:
    """Note what is executed and written; see the table of audit events in Python's manual."""
    if _current is None:
        return
    written = None
    if event in EXECUTED:
        _current.executed.append(f"{event} {arguments[:2]}"[:300])
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)) and (
            (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        ):
            written = path
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
        written = arguments[0]
    elif event in ("os.rename", "os.link", "os.symlink"):
        written = arguments[1]
    if written is not None and not isinstance(written, int):
        path = Path(os.fsdecode(written)).absolute()
        if not re.search(r"^/dev/|__pycache__", str(path)):
            _current.written.append(Path(os.path.normpath(path)))


def watch() -> None:
    """Note from now on; for the life of the process: no audit hook can be taken away."""
    if not getattr(sys, "augcam_watched", False):
        sys.addaudithook(_audit)
        sys.augcam_watched = True  # type: ignore[attr-defined]


def command(*arguments: str) -> Ended:
    """`augcam ARGUMENTS`, in the working directory; what it leaves in this process is put back."""
    global _current
    ended = Ended(arguments)
    with _as_it_was(), _captured(ended):
        _current = ended
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
        try:
            main(arguments)
        except SystemExit as exit_:
            ended.status = exit_.code if isinstance(exit_.code, int) else 1 if exit_.code else 0
        except Started:
            ended.started = True
        except BaseException:
            ended.status = None
            traceback.print_exc()
        finally:
            faulthandler.cancel_dump_traceback_later()
            _current = None
    return ended


@contextlib.contextmanager
def _captured(ended: Ended) -> Iterator[None]:
    """Streams as a terminal's: UTF-8, stderr with escapes for what has no letter."""
    buffers = io.BytesIO(), io.BytesIO()
    streams = [
        io.TextIOWrapper(buffer, "utf-8", errors, write_through=True)
        for buffer, errors in zip(buffers, ("strict", "backslashreplace"), strict=True)
    ]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        yield
    ended.out, ended.err = (written.getvalue().decode("utf-8", "replace") for written in buffers)


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Hydra and logging know one program a process: afterwards all is as before."""
    here, path, environment = Path.cwd(), list(sys.path), dict(os.environ)
    argv, root = sys.argv, logging.getLogger()
    handlers, level = list(root.handlers), root.level
    sys.argv = ["train.py"]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:], root.level = handlers, level
        logging.disable(logging.NOTSET)
        build._trusted.clear()
        overview._current = None
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
