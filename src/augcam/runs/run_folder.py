"""The run folder: its files, in and out, and how far its run is. Imports nothing heavy."""

import json
import logging
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from augcam.atomic import remove_leftovers, write_atomically
from augcam.errors import UserError, shown

if TYPE_CHECKING:
    from augcam.config.schema import Config

State = Literal["finished", "interrupted", "running", "failed", "died", "foreign"]


class RunFolder:
    """All there is to know about one run: its config, metrics, weights, events and figures.

    Every file and folder of a run has its name here, and nowhere else.

    Attributes:
        config_file, overrides_file, hydra_file: the config, what the command that began the run
            changed, and Hydra's own settings.
        log_file: what the run wrote, line by line, with dates.
        failure_file: why the run failed, with its traceback; gone once it goes on.
        metrics_file, predictions_file: what came out, and the class predicted for each test image.
        checkpoints, last, previous, best: weights, and all that a run goes on from.
        figures: pictures of the training, as PNG files.
        explanations: what `augcam explain` writes.
        evaluation_file, evaluation_arrays: what `augcam evaluate` measured, the arrays written first.
        audit_file, audit_page, audit: what `augcam audit` measured, its page, and its pictures.
        data_root: where its data are now; None for where its config says.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.data_root: Path | None = None
        self.config_file = self.path / ".hydra" / "config.yaml"
        self.overrides_file = self.path / ".hydra" / "overrides.yaml"
        self.hydra_file = self.path / ".hydra" / "hydra.yaml"
        self.metrics_file = self.path / "metrics.json"
        self.predictions_file = self.path / "test_predictions.npz"
        self.figures = self.path / "figures"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.previous = self.checkpoints / "previous.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.log_file = self.path / "train.log"
        self.failure_file = self.path / "failure.txt"
        self.explanations = self.path / "explain"
        self.evaluation_file = self.path / "evaluation.json"
        self.evaluation_arrays = self.path / "evaluation.npz"
        self.audit_file = self.path / "audit.json"
        self.audit_page = self.path / "audit.html"
        self.audit = self.path / "audit"
        self._lock_file = self.path / ".lock"  # of training

    def __str__(self) -> str:
        try:
            return str(self.path.relative_to(Path.cwd()))
        except ValueError:
            return str(self.path)

    def config(self) -> "Config":
        """The run's own config, read as data: nothing in the folder is executed or looked up.

        Raises:
            UserError: this is no run folder, or its config is not one that this version knows.
        """
        if not self.config_file.is_file():
            raise UserError(
                f"run={self}: not a run folder, .hydra/config.yaml is missing; "
                "give a folder that train.py made"
            )
        self.refuse_links()
        # Here: pydantic and the schema take 0.4 s that --help does not need.
        from augcam.config.recorded import read

        config = read(self.config_file, self.hydra_file)
        if self.data_root is None or not hasattr(config.data, "root"):
            return config
        moved = config.data.model_copy(update={"root": str(self.data_root)})
        return config.model_copy(update={"data": moved})

    def save_config(self, config: "Config", overrides: Sequence[str] | None = ()) -> None:
        """Write the config, every value settled, so that the folder alone can go on.

        Data at or below where AUGCAM_DATA points is written as that: a folder that moves finds its data
        there. The overrides are those that the run began with.

        Args:
            overrides: None where the config comes from no command line: none is made up.
        """
        from augcam.config.recorded import DATA_ROOT
        from augcam.config.schema import plain

        values = plain(config)
        root, of_all = values["data"].get("root"), os.environ.get("AUGCAM_DATA", "data")
        if root is not None and Path(root).is_relative_to(of_all):
            below = Path(root).relative_to(of_all)
            values["data"]["root"] = "/".join([DATA_ROOT, *below.parts])
        self.config_file.parent.mkdir(parents=True, exist_ok=True)
        # The config last: killed in between, the folder is no run folder yet, and begins anew.
        if not self.config_file.exists():
            if overrides is None:
                self.overrides_file.unlink(missing_ok=True)
            else:
                write_atomically(self.overrides_file, OmegaConf.to_yaml(list(overrides)))
        write_atomically(self.config_file, OmegaConf.to_yaml(OmegaConf.create(values)))

    def save_hydra(self, hydra: Any) -> None:
        """Write Hydra's own record of this start: its settings, and where they came from."""
        self.hydra_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.hydra_file, OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})))

    def overrides(self) -> list[str] | None:
        """What the command that began the run changed; None where it cannot be read."""
        path = self.overrides_file
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            return None
        return [str(line) for line in read] if isinstance(read, list) else None

    def refuse_links(self) -> None:
        """Refuse a folder whose files are elsewhere: what is written into it would land there.

        What the wandb logger has in its own folder is not AugCAM's, and it links its logs to a cache.

        Raises:
            UserError: naming the first link that leads out of the folder.
        """
        inside = self.path.resolve()
        for place, folders, files in os.walk(inside):
            for name in (*folders, *files):
                path = Path(place, name)
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    raise UserError(
                        f"run={self}: {path.relative_to(inside)} is a link that leads out of the "
                        "folder; put the file itself there"
                    )
            folders[:] = [name for name in folders if Path(place, name) != inside / "wandb"]

    def discard(self) -> None:
        """Remove what a run that did not begin has written, and the folder where it is then empty."""
        for file in (self.config_file, self.overrides_file, self.hydra_file, self.log_file):
            file.unlink(missing_ok=True)
        for folder in (self.config_file.parent, self.path):
            with suppress(OSError):
                folder.rmdir()

    def command_to_go_on(self, config: "Config") -> str:
        """The command line that goes on with the run. No folder lets in the user's own packages."""
        from augcam.config.build import packages_to_trust
        from augcam.config.schema import plain

        command = f"python train.py run={shlex.quote(str(self))}"
        packages = packages_to_trust(plain(config))
        return f"{command} 'trust=[{','.join(packages)}]'" if packages else command

    def check_continuation(self, config: "Config") -> None:
        """Refuse to go on with a run that has begun under a config that would make it another run.

        Raises:
            UserError: a line for every key that differs and may not.
        """
        if not self.last.is_file() and not self.metrics_file.is_file():
            return
        from augcam.config.compose import flat
        from augcam.config.recorded import from_record, is_given_again
        from augcam.config.schema import FREE_TO_CHANGE, plain

        recorded = (self.metrics() or {}).get("config")
        # A key that has come since then has its default, which is how that run was made.
        begun = from_record(recorded) if isinstance(recorded, Mapping) else self.config()
        before, now = flat(plain(begun)), flat(plain(config))
        problems = [
            f"{key}={shown(now.get(key))}: this run has {shown(before.get(key))}, and going on with "
            "another value would make it another run; start a new one"
            for key in now | before
            if now.get(key) != before.get(key)
            and not key.startswith(FREE_TO_CHANGE)
            and not is_given_again(key)
        ]
        if problems:
            raise UserError("\n".join(problems))

    def metrics(self) -> dict[str, Any] | None:
        """The content of metrics.json; None where the run has not written it.

        Raises:
            UserError: the file is not JSON, or cannot be read.
        """
        if not self.metrics_file.exists():
            return None
        if not self.metrics_file.is_file():  # a folder, or a pipe that would never end
            raise UserError(f"{self.metrics_file}: not a file")
        try:
            read = json.loads(self.metrics_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{self.metrics_file}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.metrics_file}: not JSON ({error})") from None
        if not isinstance(read, dict):
            raise UserError(f"{self.metrics_file}: holds no metrics")
        return read

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json whole or not at all. NaN and infinity become null: JSON has neither."""
        text = json.dumps(_without_nan(metrics), indent=2, allow_nan=False)
        write_atomically(self.metrics_file, text + "\n")

    @contextmanager
    def locked(self, command: str = "") -> Iterator[None]:
        """Hold the folder while a run works in it: one process at a time.

        Args:
            command: `evaluate`, `explain`, `audit` or `refine`, each of which may work beside a run, but
                not beside itself; training if not given.

        Raises:
            UserError: another process holds it, or a link in it leads elsewhere.
        """
        self.refuse_links()
        file = self.path / f".{command}.lock" if command else self._lock_file
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"run={self}: another process is working in this folder") from None
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
            lock.release()

    def require_writable(self) -> None:
        """Write a byte in the folder now, before minutes of work that would be lost at their end.

        Raises:
            UserError: nothing can be written there.
        """
        probe = self.path / f".probe.txt.{os.getpid()}"
        try:
            remove_leftovers(self.path, "probe.*")
            try:
                probe.write_bytes(b"0")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"run={self}: nothing can be written there ({error.strerror}); make it writable or "
                "free space, or take a copy of the folder"
            ) from None

    def state(self) -> State:
        """How far the run is, from its files alone.

        `died` is a run that was killed, or whose machine was: no process works on it, and none
        could write down an end. `foreign` is a folder that train.py did not make.
        """
        status = None
        with suppress(UserError):
            status = (self.metrics() or {}).get("status")
        if status == "finished":
            return "finished"
        if not self.config_file.is_file():
            # A job of a sweep that was refused has left nothing but the reason.
            return "failed" if self.failure_file.is_file() else "foreign"
        if self._is_held():
            return "running"
        if status == "failed" or self.failure_file.is_file():
            return "failed"
        return "interrupted" if status == "interrupted" else "died"

    def problems(self) -> list[str]:
        """What went wrong in a failed run, in lines, without a traceback; empty where nothing did."""
        try:
            text = self.failure_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
            with suppress(UserError):
                text = str((self.metrics() or {}).get("failure") or "")
        # A traceback stands below a blank line.
        return [line.removeprefix("augcam: ") for line in takewhile(str.strip, text.splitlines())]

    def why(self) -> str:
        """The first line of what went wrong in a failed run; empty where nothing did."""
        return next(iter(self.problems()), "")

    def _is_held(self) -> bool:
        if self._lock_file.is_symlink() or not self._lock_file.is_file():
            return False  # and nothing is created in folders that are only looked at
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        lock.release()
        return False


@contextmanager
def nothing_left_if_refused(folder: RunFolder) -> Iterator[None]:
    """Take away what was written into a new folder for a run that was refused.

    One with a checkpoint has been trained, and is kept whatever is wrong now.
    """
    new = not any(folder.path.iterdir())
    try:
        yield
    except UserError:
        if new and not any(folder.checkpoints.glob("*.ckpt")):
            for handler in logging.getLogger().handlers:
                # The run's own log: a program that calls `train` may keep others.
                if getattr(handler, "baseFilename", None) == os.path.abspath(folder.log_file):  # noqa: PTH100
                    handler.close()
            folder.discard()
        raise


def run_folders(
    folder: str | Path, unreadable: Callable[[OSError], None] | None = None
) -> Iterator[RunFolder]:
    """Every folder at or below `folder` that looks like a run's, however far the run is, by name.

    Links and hidden folders are not followed, and a run's own folders hold no runs.

    Args:
        unreadable: told of a folder that cannot be opened, which is then passed over.
    """
    for where, below, _files in os.walk(folder, onerror=unreadable):
        run = RunFolder(where)
        if any(p.exists() for p in (run.config_file.parent, run.checkpoints, run.metrics_file)):
            yield run
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))


def run_or_sweep(folder: Path) -> list[RunFolder]:
    """The run of this folder, or the finished runs of the sweep below it; itself if there are none."""
    run = RunFolder(folder)
    if run.config_file.is_file():
        return [run]
    return [one for one in run_folders(folder) if one.state() == "finished"] or [run]


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
