"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

import logging
from pathlib import Path

from omegaconf import OmegaConf

from augcam.config.compose import flat
from augcam.config.schema import FREE_TO_CHANGE, Config, plain, validate
from augcam.errors import UserError
from augcam.runs.finished_run import read_checkpoint
from augcam.runs.run_folder import RunFolder

log = logging.getLogger(__name__)


def resume_point(folder: RunFolder, config: Config) -> Path | None:
    """The last checkpoint, where the run has one.

    Raises:
        UserError: the checkpoint cannot be read, or Lightning cannot go on from it.
    """
    if not folder.last.is_file():
        return None
    loops = read_checkpoint(folder.last)["loops"]["fit_loop"]
    if config.trainer.max_steps != -1 and loops["epoch_loop.batch_progress"]["is_last_batch"]:
        # Lightning 2.6 then skips batches of the next epoch.
        raise UserError(
            f"run={folder}: stopped between two epochs, and with trainer.max_steps a run cannot go on "
            "from there; start it anew, with trainer.max_epochs if it may be stopped again"
        )
    log.info("going on from %s", folder.last)
    return folder.last


def check_continuation(folder: RunFolder, config: Config) -> None:
    """Refuse to go on with a run under a config that would make it another run.

    Raises:
        UserError: a line for every key that differs and may not.
    """
    if not folder.last.is_file() and not folder.metrics_file.is_file():
        return
    # Hydra may have written the new config into the folder by now: what counts is the run's own record.
    recorded = (folder.metrics() or {}).get("config") or read_checkpoint(folder.last)["config"]
    # Validated: a key that has come since then has its default, which is how that run was made.
    before, now = flat(plain(validate(recorded))), flat(plain(config))
    changed = [key for key in now | before if now.get(key) != before.get(key)]
    if problems := [key for key in changed if not key.startswith(FREE_TO_CHANGE)]:
        folder.save_config(OmegaConf.create(recorded))
        raise UserError(
            "\n".join(
                f"{key}={now.get(key)}: this run has {before.get(key)}, and going on with another value "
                "would make it another run; start a new one"
                for key in problems
            )
        )
