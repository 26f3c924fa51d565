"""Lines, log files and progress bars, which do not get into each other's way."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class Terminal(logging.Handler):
    """Log lines above the progress bar on a terminal, plain lines anywhere else."""

    def emit(self, record: logging.LogRecord) -> None:
        print_line(self.format(record))


class LogFile(logging.FileHandler):
    """A log file that a full disk makes incomplete: one warning, and never a traceback or the run."""

    complete = True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if self.complete:
            self.complete = False
            error = sys.exc_info()[1]
            print_line(f"{self.baseFilename} is incomplete: {error}")

    def close(self) -> None:
        with suppress(OSError):  # what the disk did not take, it does not take now
            super().close()


def print_line(text: str) -> None:
    """`text` as it is, above the progress bar if there is one."""
    from rich import get_console

    get_console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator["Progress"]:
    """rich's progress bars on a terminal; in a file or pipe a plain line every ten seconds."""
    from rich import get_console
    from rich.progress import Progress

    console = get_console()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        ended = threading.Event()
        lines = threading.Thread(target=_tell, args=(progress, ended), daemon=True)
        if not console.is_terminal:
            lines.start()
        try:
            yield progress
        finally:
            ended.set()


def _tell(progress: "Progress", ended: threading.Event) -> None:
    while not ended.wait(10):
        for task in progress.tasks:
            if task.total and not task.finished:
                left = "" if task.time_remaining is None else f", {task.time_remaining} s to go"
                print(f"{task.description}: {task.percentage:.0f}%{left}", flush=True)


def quiet_event_writer() -> None:
    """No traceback of TensorBoard's thread: it hands its error to the main thread, which reports it."""
    threading.excepthook = _without_event_writer


def _without_event_writer(failure: threading.ExceptHookArgs) -> None:
    from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

    if not isinstance(failure.thread, _AsyncWriterThread):
        threading.__excepthook__(failure)


def silence_terminal() -> None:
    """Nothing more of this process on the terminal; log files are not touched."""
    from rich import get_console

    get_console().quiet = True
