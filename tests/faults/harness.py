"""A small training, or a command, that is killed or refused the disk at any chosen write, and goes on.

Every write below the run folder, ours and the libraries', passes through `Disk`. An undisturbed run is
recorded first; each of its writes then gives several points: killed before it, in its middle and
after it, and the errors of a disk that is full, failing or closed. Every run is a fork of one
process that has imported all it needs, so that a point costs seconds.
"""

import builtins
import ctypes
import errno
import io
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import augcam.cli.evaluate
import augcam.cli.explain
import augcam.cli.train
import augcam.explain.faithfulness.check
import augcam.explain.gallery
import augcam.runs.finished_run  # noqa: F401 - imported for the forks
from augcam.cli.main import main
from augcam.config.schema import validate
from augcam.data import cifar10c, corruptions
from augcam.errors import explained
from augcam.runs.run_folder import RunFolder
from augcam.training import results
from augcam.training.run import train
from tests.conftest import compose

# Three epochs: the first, one with checkpoints before and after it, the last.
TINY = [
    "data=shapes", "data.train_size=60", "data.test_size=20", "data.holdout=20", "data.batch_size=10",
    "model=resnet10", "model.width=8", "model.dropout=0.2", "aug=cutout_rotate", "trainer.max_epochs=3",
    "explain.images=1", "preview.samples=1", "preview.draws=1", "trainer.accelerator=cpu",
    "trainer.precision=32-true", "trainer.log_every_n_steps=2",
]  # fmt: skip
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}


@dataclass(frozen=True)
class Write:
    """A write of the undisturbed run: the nth `call` that concerns `file`.

    `call` is open (from there to close), create (os.open, of locks), replace, link, mkdir or unlink.
    """

    file: str
    call: str
    nth: int
    pieces: int = 0  # calls of write() between open and close


@dataclass(frozen=True)
class Fault:
    """What happens at a write: `kill` or the name of an error; before it, half-way or after it."""

    write: Write
    moment: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} {self.moment} {self.write.call} {self.write.nth} of {self.write.file}"


def faults(writes: list[Write]) -> Iterator[Fault]:
    """Every point of a recorded run."""
    for write in writes:
        for moment in ("before", "half", "after"):
            if moment != "half" or write.pieces:
                yield Fault(write, moment, "kill")
        if write.call == "open":
            yield Fault(write, "before", "EACCES")
            if write.pieces:
                yield Fault(write, "half", "ENOSPC")
                yield Fault(write, "half", "EIO")
        else:
            yield Fault(write, "before", "EIO")


class Disk:
    """Stands between this process and the files below `folder`; `fault` happens once, at its write."""

    def __init__(self, folder: Path, fault: Fault | None = None) -> None:
        self.folder = folder.resolve()
        self.fault = fault
        self.counts: Counter[tuple[str, str]] = Counter()
        self.writes: list[Write] = []

    def install(self) -> None:
        """For the rest of the process."""
        really_open, replace, link = builtins.open, os.replace, os.link

        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            name = self.name(file)
            if name is None or not set(mode) & set("wax"):
                return really_open(file, mode, *args, **options)
            nth = self.count(name, "open")
            self.strike(name, "open", nth, "before")
            return WrittenFile(really_open(file, mode, *args, **options), self, name, nth)

        def moved(call: str, really: Callable[..., None]) -> Callable[..., None]:
            def move(source: Any, target: Any, **options: Any) -> None:
                name = self.name(target)
                if name is None:
                    return really(source, target, **options)
                nth = self.count(name, call)
                self.writes.append(Write(name, call, nth))
                self.strike(name, call, nth, "before")
                really(source, target, **options)
                return self.strike(name, call, nth, "after")

            return move

        def made(call: str, really: Callable[..., Any]) -> Callable[..., Any]:
            def make(path: Any, *args: Any, **options: Any) -> Any:
                name = self.name(path)
                writes = call != "create" or (args and args[0] & os.O_CREAT)
                if name is None or not writes or (call == "unlink") != os.path.lexists(path):
                    return really(path, *args, **options)
                nth = self.count(name, call)
                self.writes.append(Write(name, call, nth))
                self.strike(name, call, nth, "before")
                result = really(path, *args, **options)
                self.strike(name, call, nth, "after")
                return result

            return make

        builtins.open = io.open = opened
        os.open, os.mkdir = made("create", os.open), made("mkdir", os.mkdir)
        os.unlink = made("unlink", os.unlink)
        os.replace, os.link = moved("replace", replace), moved("link", link)

    def name(self, file: Any) -> str | None:
        """The file's name within the folder, without what differs from run to run; None elsewhere."""
        if isinstance(file, int):
            return None
        path = Path(os.fsdecode(file)).absolute()
        if not path.is_relative_to(self.folder):
            return None
        name = path.relative_to(self.folder).as_posix()
        if path.name.startswith("events."):
            return "events"
        return re.sub(r"(^|/)\.([^/]+)\.\d+$", r"\1\2", name)

    def count(self, name: str, call: str) -> int:
        self.counts[name, call] += 1
        return self.counts[name, call]

    def strike(self, name: str, call: str, nth: int, moment: str) -> None:
        """The fault, if this is its place."""
        fault = self.fault
        if fault and (fault.write.file, fault.write.call, fault.write.nth, fault.moment) == (
            name, call, nth, moment,
        ):  # fmt: skip
            self.fault = None
            print(f"STRUCK {fault}", flush=True)
            if fault.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            number = ERRORS[fault.what]
            raise OSError(number, os.strerror(number), name)


class WrittenFile:
    """An open file whose writes are counted; the fault leaves the middle one half done."""

    def __init__(self, file: Any, disk: Disk, name: str, nth: int) -> None:
        self._file, self._disk, self._name, self._nth = file, disk, name, nth
        self._pieces = 0

    def write(self, content: Any) -> Any:
        self._pieces += 1
        fault = self._disk.fault
        if fault and fault.moment == "half" and self._pieces == (fault.write.pieces + 1) // 2:
            if (fault.write.file, fault.write.call, fault.write.nth) == (
                self._name, "open", self._nth,
            ):  # fmt: skip
                self._file.write(content[: len(content) // 2])
                self._file.flush()
            self._disk.strike(self._name, "open", self._nth, "half")
        return self._file.write(content)

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._disk.writes.append(Write(self._name, "open", self._nth, self._pieces))
            self._disk.strike(self._name, "open", self._nth, "after")

    def __enter__(self) -> "WrittenFile":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# Here, so that it is done once, in the process that all runs are forks of.
CONFIG = validate(compose(TINY))


def _blank(figure: Any) -> np.ndarray:
    """In place of drawing a figure, which is half of such a run: the file is written all the same."""
    return np.zeros((4, 4, 3), np.uint8)


def run(folder: Path, log: Path, fault: Fault | None = None, arguments: Sequence[str] = ()) -> None:
    """What `augcam ARGUMENTS` does, or else a training in the folder; exits with its status.

    Measured is less than usual, and all is written.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    torch.set_num_threads(1)
    results.figure_array = _blank
    corruptions.CORRUPTIONS = dict(list(corruptions.CORRUPTIONS.items())[:1])
    cifar10c.SEVERITIES = (1,)  # type: ignore[assignment]
    if not arguments:
        folder.mkdir(exist_ok=True)
    disk = Disk(folder, fault)
    disk.install()
    status = _command(arguments) if arguments else _train(RunFolder(folder))
    log.with_suffix(".json").write_text(json.dumps([vars(write) for write in disk.writes]))
    sys.stdout.flush()
    os._exit(status)


def _command(arguments: Sequence[str]) -> int:
    sys.argv = ["augcam", *arguments]
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        logging.shutdown()
    return 0


def _train(run_folder: RunFolder) -> int:
    status = 0
    try:
        with run_folder.locked():
            run_folder.check_continuation(CONFIG)
            if run_folder.state() != "finished":
                run_folder.save_config(CONFIG, TINY)
            train(CONFIG, run_folder)
    except Exception as error:
        message, status = explained(error)
        print(message, flush=True)
        if "debug=true" in message:
            traceback.print_exc()
    return status


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.faults.harness"])


def start(
    folder: Path, log: Path, fault: Fault | None = None, arguments: Sequence[str] = ()
) -> Any:
    """The run, or `augcam ARGUMENTS`, in a process of its own, under way."""
    process = _FORKS.Process(target=run, args=(folder, log, fault, arguments))
    process.start()
    return process


def exit_status(process: Any, seconds: float = 300) -> int:
    """The status of a process, once it has ended; a negative number names a signal."""
    process.join(seconds)
    assert process.exitcode is not None, "the run hangs"
    return int(process.exitcode)


def recorded(log: Path) -> list[Write]:
    """The writes of a run that was not killed."""
    return [Write(**write) for write in json.loads(log.with_suffix(".json").read_text())]


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be the same, however often the run was stopped, without its clocks."""
    metrics = json.loads((folder / "metrics.json").read_text())
    with np.load(folder / "test_predictions.npz") as saved:
        predictions = {name: saved[name] for name in saved.files}
    found: dict[str, Any] = {
        "status": metrics["status"],
        "history": [_without_clocks(row) for row in metrics["history"]],
        "results": [metrics["val"], metrics["test"]],
        "predictions": predictions,
    }
    for name in ("last", "best"):
        saved = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "random_state", "epoch",
                    "global_step", "results"):  # fmt: skip
            found[f"{name} {key}"] = saved[key]
    return found


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """The places in which two outcomes are not the same, bit for bit; NaN equals NaN."""
    if type(one) is not type(other):
        return [f"{where}: {type(one).__name__} and {type(other).__name__}"]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: keys {sorted(one.keys() ^ other.keys(), key=str)}"]
        pairs = [(f"{where}/{key}", one[key], other[key]) for key in one]
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} items"]
        pairs = [(f"{where}/{i}", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        if isinstance(one, torch.Tensor):
            same = one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
        elif isinstance(one, np.ndarray):
            same = one.tobytes() == other.tobytes()
        else:
            same = one == other or (one != one and other != other)
        return [] if same else [where]
    return [difference for where, a, b in pairs for difference in differences(a, b, where)]


def _without_clocks(row: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in row.items() if key != "wall_seconds"}


CLONE_NEWNS = 0x00020000  # unshare(2): a mount namespace of its own


def on_a_full_disk(place: Path, size: int) -> tuple[int, int, str]:
    """A training on a disk of `size` bytes, and once more in its folder after that was made larger.

    Both statuses, and what the first of them printed; the folder ends as `place`/kept.
    """
    process = _FORKS.Process(target=_small_disk, args=(place, size))
    process.start()
    exit_status(process)
    first, again = json.loads((place / "statuses.json").read_text())
    return first, again, (place / "first.txt").read_text()


def _small_disk(place: Path, size: int) -> None:
    """The disk is this process's alone, and goes with it."""
    disk = place / "disk"
    disk.mkdir()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
    folder = disk / "run"
    first = _forked(folder, place / "first.txt", ["train", f"hydra.run.dir={folder}", *TINY])
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    config = RunFolder(folder).config_file
    on = [f"run={folder}"] if config.is_file() else [f"hydra.run.dir={folder}", *TINY]
    again = _forked(folder, place / "again.txt", ["train", *on])
    shutil.copytree(folder, place / "kept")
    (place / "statuses.json").write_text(json.dumps([first, again]))


def _forked(folder: Path, log: Path, arguments: Sequence[str]) -> int:
    """`run` in a fork of this process, which shares its mounts; its status."""
    child = os.fork()
    if not child:
        run(folder, log, None, arguments)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
