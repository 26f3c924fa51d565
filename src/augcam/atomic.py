"""The one way to write a file: whoever reads it sees the old content or the new, after a crash too.

The content goes into a file beside the target, is forced onto the disk and then renamed, which is
the moment at which it counts (rename(2); LWN, "That massive filesystem thread", 2009). Imports nothing
of AugCAM and nothing heavy.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# What a kill can leave: a file of ours, hidden, followed by the number of the process that wrote it.
_LEFTOVER = re.compile(r"\..+\.(ckpt|csv|html|images|json|md|npz|png|txt|yaml)\.\d+")


@contextmanager
def atomic_file(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write `path`'s new content into; at the end of the block it takes the path's place.

    Where the block raises, or the disk is full, `path` stays as it was and nothing lies beside it.

    Args:
        path: the target. Its folder is made where it is missing.
        keep: where the old content goes, if there is one; at no moment is `path` without a content.

    Raises:
        OSError: it cannot be written; `filename` names the target.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _also_as(path, keep)
        os.replace(beside, path)  # noqa: PTH105 - what tests of faults intercept
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes whole or not at all. See `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_leftovers(folder: Path, names: str = "*") -> list[Path]:
    """Remove what processes that were killed have left half-written in `folder` and one level below.

    Only for files that no other process writes: all of the folder's, or those whose names fit `names`.
    """
    removed = []
    for path in (*folder.glob(f".{names}"), *folder.glob(f"*/.{names}")):
        if _LEFTOVER.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _also_as(path: Path, other: Path) -> None:
    """Give the file a second name, in place of what had that name before."""
    beside = other.with_name(f".{other.name}.{os.getpid()}")
    try:
        os.link(path, beside)
    except OSError:  # a file system without links: for a moment only the other name exists
        os.replace(path, other)  # noqa: PTH105
    else:
        os.replace(beside, other)  # noqa: PTH105


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system lets a folder be opened, or synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
