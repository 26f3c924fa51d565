"""What every door shares: errors in one to three lines, exit statuses, and `run=DIR`.

Exit status 0: done; 1: the run failed; 2: the request was wrong; 130 and 143: stopped by Ctrl-C
and SIGTERM.
"""

import difflib
import errno
import hashlib
import logging
import re
import secrets
import shutil
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from augcam.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

Options = TypeVar("Options")

_NOT_WRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR,
    errno.EINVAL, errno.ENAMETOOLONG,
}  # fmt: skip


class Terminal(logging.Handler):
    """Log lines above the progress bar on a terminal, plain lines anywhere else."""

    def emit(self, record: logging.LogRecord) -> None:
        from rich import get_console

        get_console().print(self.format(record), markup=False, highlight=False, soft_wrap=True)


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


@contextmanager
def discarded_if_refused(folder: str | Path, continued: bool) -> Iterator[None]:
    """Take away what Hydra wrote for a run that was refused; one that had begun keeps its files."""
    folder = Path(folder)
    new = not any((folder / name).exists() for name in ("checkpoints", "metrics.json", ".lock"))
    try:
        yield
    except UserError:
        if new and not continued:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.FileHandler):
                    handler.close()
                    Path(handler.baseFilename).unlink(missing_ok=True)
            shutil.rmtree(folder / ".hydra", ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()  # only where nothing else is in it
        raise


@contextmanager
def run_of_its_own(folder: str | Path, continued: bool) -> Iterator[None]:
    """A run that is no job of a sweep: errors in words, and nothing half-written."""
    with reported(), discarded_if_refused(folder, continued):
        yield


@contextmanager
def reported() -> Iterator[None]:
    """Turn what goes wrong inside into a message on stderr and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if any(argument.lower() == "debug=true" for argument in sys.argv[1:]):
            traceback.print_exc()
        message, status = explained(error)
        sys.stdout.flush()
        print(message, file=sys.stderr)
        sys.exit(status)


def silence_terminal() -> None:
    """Nothing more of this process on the terminal; log files are not touched."""
    from rich import get_console

    get_console().quiet = True


def unique() -> str:
    """Six random hex digits, so that runs of the same second share no folder."""
    return secrets.token_hex(3)


def _folder_name(text: str) -> str:
    name = re.sub(r"[^\w=.,+-]", "-", text)
    if len(name) <= 150:
        return name
    return f"{name[:150]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def nearest(word: str, choices: Iterable[object]) -> str:
    """A question naming the choices nearest to `word`, or all of them where none is near."""
    names = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(names)}"


def explained(error: Exception) -> tuple[str, int]:
    """What went wrong in one to three lines, and the exit status that says whose fault it was."""
    from hydra.errors import HydraException, MissingConfigException

    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, UserError):
        return "\n".join(f"augcam: {line}" for line in str(error).splitlines()), 2
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if error.options:
            return f"augcam: {group}={name}: unknown; {nearest(name, error.options)}", 2
        return f"augcam: {error.missing_cfg_file}: no such config", 2
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        parent = cause.parent_node
        keys = [str(key) for key in parent] if isinstance(parent, Iterable) else []
        wrong = str(cause.key)
        if keys and wrong not in keys:
            where = f"{cause.full_key}: there is no such key; {nearest(wrong, keys)}"
            return f"augcam: {where}", 2
        return f"augcam: {cause.full_key}: {str(cause).splitlines()[0]}", 2
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return "augcam: " + "\n        ".join(lines[:2]), 2
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"augcam: {where}{error.strerror}; hydra.run.dir=DIR writes to another folder "
            "(sweep.dir=DIR a sweep)"
        ), 2
    return f"augcam: {type(error).__name__}: {error}\n        debug=true shows where", 1


def continue_run(arguments: Sequence[str]) -> list[str]:
    """The command line with `run=DIR` written out for Hydra: the folder's own config and place.

    Without `run=` the arguments come back as they are. Further overrides win over the run's config.

    Raises:
        UserError: DIR is no run folder, or `run=` comes with a sweep.
    """
    given = [argument for argument in arguments if argument.startswith("run=")]
    if not given:
        return list(arguments)
    folder = Path(given[-1].removeprefix("run=")).expanduser().absolute()
    if {"-m", "--multirun"} & set(arguments):
        raise UserError(f"run={folder}: one run continues at a time, without -m")
    if not (folder / ".hydra" / "config.yaml").is_file():
        raise UserError(
            f"run={folder}: not a run folder, .hydra/config.yaml is missing; "
            "give a folder that train.py made"
        )
    rest = [argument for argument in arguments if argument not in given]
    escaped = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [
        f"--config-path={folder / '.hydra'}",
        "--config-name=config",
        *rest,
        f"hydra.run.dir='{escaped}'",
        # The folder keeps the record of how it began; the config that it goes on with is written later.
        "hydra.output_subdir=null",
        f"hydra.searchpath=['{Path(__file__).parents[2] / 'conf'}']",
        "hydra/job_logging=augcam",
        "hydra/hydra_logging=augcam",
        "hydra.job.name=train",
    ]


def help_text(conf: Path) -> str:
    """What `--help` says: the template of conf/hydra/help/augcam.yaml with every group's choices.

    Hydra 1.3 says the same, but copies all of its configs for each group that it lists: three seconds.
    """
    words = OmegaConf.create({"hydra": {"help": OmegaConf.load(conf / "hydra/help/augcam.yaml")}})
    groups = {path.parent.relative_to(conf) for path in conf.rglob("*.yaml")} - {Path()}
    choices = [
        f"{group.as_posix()}: {', '.join(sorted(p.stem for p in (conf / group).glob('[!_]*.yaml')))}"
        for group in sorted(groups, key=Path.as_posix)
        if group.parts[0] != "hydra"
    ]
    return Template(words.hydra.help.template).substitute(
        APP_CONFIG_GROUPS="\n".join(choices) + "\n"
    )


def options(schema: type[Options], arguments: Sequence[str], usage: str) -> Options:
    """`key=value` arguments as an instance of a pydantic model, for the doors without Hydra.

    `--help` prints `usage` and the model's fields with their descriptions and defaults, and exits.

    Raises:
        UserError: an unknown key, or a value of the wrong type or range; all at once.
    """
    from pydantic import BaseModel, ValidationError

    assert issubclass(schema, BaseModel)
    fields = schema.model_fields
    if {"-h", "--help"} & set(arguments):
        print(usage.strip(), "\n")
        for name, field in fields.items():
            default = "" if field.is_required() else f" [{field.default}]"
            print(f"  {name + '=':<14}{field.description}{default}")
        sys.exit(0)
    problems = [f"{a}: write key=value" for a in arguments if "=" not in a]
    pairs = [argument.split("=", 1) for argument in arguments if "=" in argument]
    problems += [
        f"{key}: there is no such key; {nearest(key, fields)}"
        for key, _ in pairs
        if key not in fields
    ]
    values = {key: value for key, value in pairs if key in fields}
    parsed = None
    try:
        # Lists as in Hydra: a,b or [a,b]; everything else as YAML reads it.
        parsed = schema.model_validate(
            {
                key: value.strip("[]").split(",")
                if "tuple" in str(fields[key].annotation) or "list" in str(fields[key].annotation)
                else OmegaConf.create({"value": value})["value"]
                for key, value in values.items()
            }
        )
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            key = str(problem["loc"][0]) if problem["loc"] else "options"
            given = "" if problem["type"] == "missing" else f"={values.get(key, '')}"
            problems.append(f"{key}{given}: {problem['msg']}")
    if problems or parsed is None:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return parsed


# On import, for the worker processes of a sweep too: they unpickle what train.py defines, and so come
# by here. `${unique:}` is cached, as Hydra's own `now` is: every look at one config sees the same.
# `${short:TEXT}` is TEXT as the name of one folder: no separators, and never too long for a disk.
OmegaConf.register_new_resolver("unique", unique, use_cache=True, replace=True)
OmegaConf.register_new_resolver("short", _folder_name, replace=True)
