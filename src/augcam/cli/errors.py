"""What every command shares: errors in one to three lines, and exit statuses.

Exit status 0: done; 1: the run failed; 2: the request was wrong; 130 and 143: stopped by Ctrl-C
and SIGTERM.
"""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich import get_console

from augcam.errors import UserError, explained
from augcam.runs.run_folder import RunFolder, run_or_sweep

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def reported(elsewhere: str = "") -> Iterator[None]:
    """Turn what goes wrong inside into a message on stderr and an exit status.

    Args:
        elsewhere: see `augcam.errors.explained`.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if any(argument.lower() == "debug=true" for argument in sys.argv[1:]):
            traceback.print_exc()
        message, status = explained(error, elsewhere)
        sys.stdout.flush()
        print(message, file=sys.stderr)
        sys.exit(status)


def for_each(
    function: Callable[[Item], Result], items: Iterable[Item], most: int = 3
) -> list[Result]:
    """The function's results; wrong requests are collected and reported together.

    Raises:
        UserError: one line for each problem; of more than `most`, the first ones and a count.
    """
    results, problems = [], []
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:
            message, status = explained(error)
            if status != 2:
                raise
            problems += [line.removeprefix("augcam: ") for line in message.splitlines()]
    problems = list(dict.fromkeys(problems))
    if len(problems) > most:
        problems[most - 1 :] = [f"... and {len(problems) - most + 1} more such problems"]
    if problems:
        raise UserError("\n".join(problems))
    return results


def for_each_run(
    path: Path, work: Callable[[RunFolder], None], data_root: Path | None = None
) -> None:
    """Do it to the run of this folder, or to every finished one of the sweep below it.

    A run that cannot be worked on stops none of the others: what is wrong is reported at the end.

    Raises:
        UserError: what is wrong with which run.
    """
    folders = run_or_sweep(path)
    for folder in folders:
        folder.data_root = data_root

    def announced(numbered: tuple[int, RunFolder]) -> None:
        number, folder = numbered
        get_console().print(f"{number}/{len(folders)}  {folder}", soft_wrap=True, markup=False)
        work(folder)

    if len(folders) == 1:
        work(folders[0])
    else:
        for_each(announced, enumerate(folders, start=1), most=3 * len(folders))
