"""Going on with a stopped run: from which checkpoint, and under which config."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from augcam.atomic import write_atomically
from augcam.config.compose import flat
from augcam.config.schema import FREE_TO_CHANGE, Config, plain
from augcam.errors import UserError, shown
from augcam.runs.finished_run import read_checkpoint
from augcam.runs.run_folder import RunFolder

log = logging.getLogger(__name__)

# Without these nobody can go on to the result that the run would have had.
_NEEDED = ("config", "random_state", "loops", "optimizer_states", "lr_schedulers", "callbacks")


def resume_point(folder: RunFolder, config: Config) -> Path | None:
    """The checkpoint that the run goes on from; None where no epoch had ended.

    Raises:
        UserError: no checkpoint of the run can be used, or Lightning cannot go on from it.
    """
    path, saved = newest_checkpoint(folder)
    if path is None:
        return None
    refuse_another_run(path, saved["config"], config)
    loops = saved["loops"]["fit_loop"]
    if config.trainer.max_steps != -1 and loops["epoch_loop.batch_progress"]["is_last_batch"]:
        # Lightning 2.6 then skips batches of the next epoch.
        raise UserError(
            f"run={folder}: stopped between two epochs, and with trainer.max_steps a run cannot go on "
            "from there; start it anew, with trainer.max_epochs if it may be stopped again"
        )
    restore_best(folder, saved)
    log.info("going on from %s", path)
    return path


def restore_best(folder: RunFolder, saved: Mapping[str, Any]) -> None:
    """Write a best.ckpt that is damaged or missing once more, where another checkpoint is of its epoch.

    Where none is, its weights are lost: the log says so, and the run goes on.

    Args:
        saved: the checkpoint that the run goes on from.
    """
    scores = [row.get("val/accuracy", -1.0) for row in saved["callbacks"]["Recorder"]["history"]]
    if max(scores, default=-1.0) < 0:
        return  # no validation so far: there is none
    try:
        read_checkpoint(folder.best)
        return
    except UserError as error:
        problem = str(error) if folder.best.exists() else f"{folder.best} is missing"
    best = scores.index(max(scores))  # the first of equals, as Lightning has it
    for path in (folder.last, folder.previous):
        with suppress(UserError):
            other = read_checkpoint(path)
            # One of the middle of an epoch has a history that ends with the epoch before.
            if other["epoch"] == best == len(other["callbacks"]["Recorder"]["history"]) - 1:
                write_atomically(folder.best, path.read_bytes())
                log.warning("%s: written again from %s, of the same epoch", problem, path)
                return
    log.warning(
        "%s: the weights of its epoch, %d, are lost; going on without them, and a better epoch will "
        "write it anew", problem, best + 1,
    )  # fmt: skip


def refuse_another_run(path: Path, begun: Any, config: Config) -> None:
    """Refuse to go on with weights that were trained under other settings than the folder's config has.

    Keys that only one of the two has are of another version, and count for nothing.

    Raises:
        UserError: a line for every key that differs and may not.
    """
    before, now = flat(begun if isinstance(begun, Mapping) else {}), flat(plain(config))
    if problems := [
        f"{key}={shown(now[key])}: {path} was trained with {shown(before[key])}, and going on with "
        "another value would make it another run"
        for key in before.keys() & now.keys()
        if before[key] != now[key] and not key.startswith(FREE_TO_CHANGE)
    ]:
        raise UserError("\n".join(sorted(problems)))


def newest_checkpoint(folder: RunFolder) -> tuple[Path | None, dict[str, Any]]:
    """The newest checkpoint that is whole, and its content; (None, {}) for a run without any.

    A damaged `last.ckpt` is named, and the run goes back to the one before it.

    Raises:
        UserError: there are checkpoints, or there were, and the run cannot resume from any of them.
    """
    problems = []
    for path in (folder.last, folder.previous):
        if not path.is_file():
            problems.append(f"{path} is missing")
            continue
        try:
            saved = read_checkpoint(path)
            if lacking := [key for key in _NEEDED if key not in saved]:
                raise UserError(
                    f"{path}: holds no {', '.join(lacking)}, so no run can go on from it"
                )
        except UserError as error:
            problems.append(str(error))
            continue
        if problems:
            log.warning("%s: going on from %s instead", problems[0], path)
        return path, saved
    anew = "start a new run; or, to start this one anew, remove its checkpoints/ and metrics.json"
    if folder.last.exists() or folder.previous.exists():
        raise UserError("\n".join([*problems, anew]))
    if epochs := _epochs_saved(folder):
        raise UserError(
            f"run={folder}: {folder.last.name} is missing, and it held {epochs} epochs or more\n{anew}"
        )
    if folder.best.is_file():
        log.warning(
            "%s: stopped before the first %s was written; starting from the first epoch",
            folder, folder.last.name,
        )  # fmt: skip
    return None, {}


def _epochs_saved(folder: RunFolder) -> int:
    """How many epochs at least had a `last.ckpt` once, by what else is in the folder.

    The newest of those on record counts for none: a run can end just before it is written, and
    `best.ckpt` comes first.
    """
    best = read_checkpoint(folder.best).get("epoch", 0) if folder.best.is_file() else 0
    return max(best, ((folder.metrics() or {}).get("epochs") or 0) - 1)
