"""`python train.py` and `augcam train`: one run, or a job of a sweep; `run=DIR`, and `--help`."""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from augcam.cli.errors import reported
from augcam.config.compose import CONF
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder
from augcam.sweeps.arguments import refuse_relaunch

if TYPE_CHECKING:
    from augcam.config.schema import Config

log = logging.getLogger(__name__)


@contextmanager
def removed_if_refused(folder: str | Path, continued: bool) -> Iterator[None]:
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
def single_run(folder: str | Path, continued: bool) -> Iterator[None]:
    """A run that is no job of a sweep: errors in words, and nothing half-written."""
    with reported(), removed_if_refused(folder, continued):
        yield


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
        f"hydra.searchpath=['{CONF}']",
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


def train_in_hydra_folder(tree: DictConfig, config: "Config") -> float | None:
    """`train` in the folder that Hydra made, with what a person at the terminal wants to read.

    Returns:
        The validation accuracy, for sweepers. Exits with 130 or 143 where a signal stopped the run.
    """
    import torch
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from lightning_fabric.utilities.rank_zero import rank_zero_only
    from rich import get_console

    from augcam.training.results import results_table
    from augcam.training.resume import check_continuation
    from augcam.training.run import train

    hydra = HydraConfig.get()
    folder = RunFolder(hydra.runtime.output_dir)
    began = time.perf_counter()
    strategy, devices = config.trainer.strategy, config.trainer.devices
    if hydra.mode == RunMode.MULTIRUN:
        refuse_relaunch(strategy)  # where the strategy varies, the sweep's door could not
        if strategy == "auto" and devices != 1 and torch.cuda.device_count() > 1:
            raise UserError(
                f"trainer.devices={devices}: a sweep's job uses one device, trainer.devices=1, or "
                "several with trainer.strategy=ddp_fork"
            )
    had_finished = folder.state() == "finished"
    # The other ranks of a run belong to the process that holds the folder.
    with folder.locked() if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext():
        check_continuation(folder, config)
        folder.save_config(tree)
        result = train(config, folder)
    if had_finished or (torch.distributed.is_initialized() and torch.distributed.get_rank() > 0):
        return result.objective
    if result.signum is not None:
        again = f"run={shlex.quote(str(folder))}"
        if hydra.mode == RunMode.MULTIRUN:
            again = f"-m with the same words and sweep.dir={shlex.quote(config.sweep.dir)}"
        log.info("stopped, and all is kept. To go on: python train.py %s", again)
        sys.exit(128 + result.signum)
    if config.trainer.fast_dev_run:
        log.info("fast_dev_run: every part ran; no checkpoint and no metrics.json are kept")
        return result.objective
    get_console().print(results_table(result.metrics))
    log.info(
        "%s in %.0f s, %.0f training images/s\ntensorboard --logdir %s",
        result.metrics["status"], time.perf_counter() - began,
        result.metrics["train_images_per_second"], folder,
    )  # fmt: skip
    return result.objective
