"""What went wrong, in words: `UserError` is a wrong request, everything else a fault of ours."""

import difflib
import errno
import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf.errors import OmegaConfBaseException


class UserError(ValueError):
    """A wrong request: what is wrong, the value, and what would be right, in one to three lines.

    The command line prints the message alone and exits with status 2.
    """


class RunError(RuntimeError):
    """A run that cannot go on, though the request was right: what happened, and what to do next.

    The command line prints the message alone and exits with status 1.
    """


_NOT_WRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EINVAL,
    errno.ENAMETOOLONG,
}  # fmt: skip


MOST = 600  # characters of a line; what a message lists, all arguments of a transform, fits


def shown(value: object, most: int = 80) -> str:
    """A value as a message shows it: on one line, and shortened in its middle where it is long."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 20]}[...]{text[-15:]}"


def first_line(error: Exception, most: int = 300) -> str:
    """What an error of another library says: its first line, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def nearest(word: str, choices: Iterable[object]) -> str:
    """A question naming the choices nearest to `word`, or all of them where none is near."""
    names = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(names)}"


def pydantic_message(problem: Mapping[str, Any]) -> str:
    """The message of one of pydantic's `ValidationError.errors()`, without what it begins with."""
    message: str = problem["msg"]
    return message.removeprefix("Value error, ").removeprefix("Input ")


def explained(error: Exception, elsewhere: str = "") -> tuple[str, int]:
    """What went wrong in one to three lines, and the exit status that says whose fault it was.

    Args:
        elsewhere: the argument with which the command writes to another folder, such as `out=DIR`.
    """
    from hydra.errors import HydraException, MissingConfigException

    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, UserError):
        return "\n".join(f"augcam: {shown(line, MOST)}" for line in str(error).splitlines()), 2
    if isinstance(error, RunError):
        return "\n".join(f"augcam: {shown(line, MOST)}" for line in str(error).splitlines()), 1
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if error.options:
            return f"augcam: {group}={shown(name)}: unknown; {nearest(name, error.options)}", 2
        return f"augcam: {shown(error.missing_cfg_file)}: no such config", 2
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        parent = cause.parent_node
        keys = [str(key) for key in parent] if isinstance(parent, Iterable) else []
        wrong = str(cause.key)
        if keys and wrong not in keys:
            where = f"{shown(cause.full_key)}: there is no such key; {nearest(wrong, keys)}"
            return f"augcam: {where}", 2
        return f"augcam: {shown(cause.full_key)}: {shown(str(cause).splitlines()[0], 200)}", 2
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        lines = [shown(line, 200) for line in str(error).splitlines() if line.strip()]
        if several := re.match(r"(Ambiguous value for argument|Sweep parameters) '(.*)'", lines[0]):
            written = several[2]
            right = f"; a list is [{written.partition('=')[2]}]" if several[1][0] == "A" else ""
            return f"augcam: {written}: several values are a sweep: add -m{right}", 2
        return "\n".join(f"augcam: {line}" for line in lines[:2]), 2
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        where = f"{shown(error.filename, 200)}: " if error.filename else ""
        instead = f"; {elsewhere} writes to another folder" if elsewhere else ""
        return f"augcam: {where}{error.strerror}{instead}", 2
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        where = f"{shown(error.filename or 'the disk', 200)}: {error.strerror}"
        instead = f", or {elsewhere} writes to another disk" if elsewhere else ""
        return f"augcam: {where}; free space{instead}", 1
    return (
        f"augcam: {type(error).__name__}: {shown(error, MOST)}\n        debug=true shows where",
        1,
    )
