"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

import logging
from pathlib import Path

from augcam.config.schema import Config
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
