"""`augcam train` and `python train.py`: one run, a sweep, or with `run=DIR` on with a stopped run.

torch is imported when the request has been checked and the run folder is this process's own.
"""

import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NoReturn

from augcam.cli.errors import reported
from augcam.config.build import trust, trust_given
from augcam.config.compose import CONF, check_choices, continuation, quoted
from augcam.errors import UserError, shown
from augcam.runs.run_folder import RunFolder, nothing_left_if_refused

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from augcam.config.schema import Config

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Train as the arguments say, in Hydra's grammar; exits with 1, 2, 130 or 143 if it ends early."""
    if {"-h", "--help"} & set(arguments):
        print(help_text(CONF))
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing its own
    # hydra.main would read sys.argv, which Lightning starts the further ranks of a run with: it must
    # stay as the user wrote it.
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser
    from omegaconf.errors import OmegaConfBaseException

    from augcam.sweeps.arguments import sweep_arguments
    from augcam.sweeps.overview import concluded

    sweep = any(map(is_multirun, arguments))
    with reported("sweep.dir=DIR" if sweep else "hydra.run.dir=DIR"), concluded():
        trust_given(arguments)  # a run folder's config is checked before Hydra composes anything
        name, rest = primary_config(["-m" if is_multirun(a) else a for a in arguments])
        version.setbase("1.3")
        settled = [quoted(argument) for argument in rest]
        parser = get_args_parser()
        parser.error = refused_flag  # type: ignore[method-assign]
        # Intermixed: flags may stand between overrides, which the ordinary parse_args refuses.
        asked = parser.parse_intermixed_args(settled)
        if asked.multirun and (asked.cfg or asked.info):
            flag = "--cfg" if asked.cfg else "--info"
            raise UserError(f"{flag} shows one config: leave -m and the lists out")
        check_choices(asked.overrides)
        try:
            _run_hydra(
                args=parser.parse_intermixed_args(sweep_arguments(settled)),
                args_parser=parser,
                task_function=job,
                config_path=str(CONF),
                config_name=name,
            )
        except (TypeError, ValueError) as error:
            if asked.multirun or isinstance(error, (UserError, OmegaConfBaseException)):
                raise
            # `job` lets out none of these: Hydra could not make anything of the request.
            raise UserError(shown(error, 200)) from error


def is_multirun(argument: str) -> bool:
    """Whether argparse takes an argument for `-m`: `--multi` and `-mm` too."""
    return re.fullmatch("-m+", argument) is not None or (
        "--multirun".startswith(argument) and "--m" in argument
    )


def refused_flag(message: str) -> NoReturn:
    """In place of argparse's page of usage.

    Raises:
        UserError: with what argparse has against the command line.
    """
    raise UserError(f"{shown(message, 200)}; --help says more")


def primary_config(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The config that Hydra starts from, and what is left of the arguments: those without `run=DIR`.

    For `run=DIR` it is the run's own, read as data and validated. Overrides win over it.

    Raises:
        UserError: DIR is no run folder, `run=` comes with a sweep, or a logger or callback needs again
            what is not taken from a folder.
    """
    given = [argument for argument in arguments if argument.startswith("run=")]
    if not given:
        return "train", list(arguments)
    path = Path(given[-1].removeprefix("run=")).expanduser().absolute()
    if "-m" in arguments:
        raise UserError(f"run={path}: one run continues at a time, without -m")
    if "${" in str(path):  # Hydra would look up what stands there
        raise UserError(f"run={path}: ${{ in a folder's name has a meaning of its own; rename it")
    from hydra.core.config_store import ConfigStore

    from augcam.config.recorded import to_give_again
    from augcam.config.schema import plain

    recorded = plain(RunFolder(path).config())
    words = {argument.lstrip("+").partition("=")[0] for argument in arguments}
    missing = [key for key in to_give_again(RunFolder(path).config_file) if key not in words]
    if missing and RunFolder(path).state() != "finished":
        raise UserError(
            "\n".join(
                f"{key}: not for a run folder to say; give it again: +{key}=..." for key in missing
            )
        )
    ConfigStore.instance().store("continuation", continuation(recorded, path))
    return "continuation", [argument for argument in arguments if argument not in given]


def job(tree: "DictConfig") -> float | None:
    """One run, in the folder that Hydra made for it: Hydra calls this.

    Returns:
        The validation accuracy, which a sweeper maximises. None for a sweep's job that failed.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from augcam.sweeps.job import sweep_job

    hydra = HydraConfig.get()
    folder = RunFolder(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        with folder.locked(), sweep_job(folder.path):
            folder.save_hydra(hydra)  # always: the sweep knows its jobs by it
            return run(tree, folder, hydra.overrides.task, in_sweep=True)
        return None
    with reported("hydra.run.dir=DIR"), nothing_left_if_refused(folder):
        if not str(hydra.run.dir or "").strip():
            raise UserError("hydra.run.dir=: must be a folder; without it, one in outputs/ is made")
        # The further ranks of a run belong to the process that holds the folder.
        with folder.locked() if rank() == 0 else nullcontext():
            if rank() == 0 and not folder.config_file.exists():
                folder.save_hydra(hydra)
            new = folder.state() != "finished" and not folder.checkpoints.exists()
            result = run(tree, folder, hydra.overrides.task, in_sweep=False)
        if tree.trainer.fast_dev_run and new and rank() == 0:
            folder.discard()
        return result


def run(
    tree: "DictConfig", folder: RunFolder, overrides: Sequence[str], in_sweep: bool
) -> float | None:
    """Check the request, write it down, and only then load torch and train.

    Raises:
        UserError: the request is wrong.
    """
    from augcam.config.schema import validate

    config = validate(tree)
    trust(config.trust)
    refuse_nodes_on_their_own(config)
    folder.check_continuation(config)
    had_finished = folder.state() == "finished"
    if rank() == 0 and not had_finished:
        folder.save_config(config, overrides)
        log.info("%s in %s: loading PyTorch", shown(config.name), folder)
    return train_in_words(config, folder, in_sweep, had_finished)


def rank() -> int:
    """Of this process in its run, by what the launchers of several set."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
    return int(next((os.environ[name] for name in names if name in os.environ), 0))


def refuse_nodes_on_their_own(config: "Config") -> None:
    """Refuse a run on several machines that nobody has introduced to each other: it would wait for ever.

    Raises:
        UserError: no environment variable of SLURM, torchrun, MPI, LSF or Lightning is set.
    """
    known = (
        "MASTER_ADDR",
        "SLURM_JOB_ID",
        "TORCHELASTIC_RUN_ID",
        "OMPI_COMM_WORLD_SIZE",
        "LSB_JOBID",
    )
    if config.trainer.num_nodes > 1 and not any(name in os.environ for name in known):
        raise UserError(
            f"trainer.num_nodes={config.trainer.num_nodes}: start it on every node with torchrun or "
            "SLURM, or set MASTER_ADDR, MASTER_PORT and NODE_RANK there"
        )


def train_in_words(
    config: "Config", folder: RunFolder, in_sweep: bool, had_finished: bool
) -> float | None:
    """`train`, and what a person at the terminal wants to read of it.

    Returns:
        The validation accuracy, for sweepers. Exits with 130 or 143 where a signal stopped the run.
    """
    import torch
    from rich import get_console

    from augcam.training.results import results_table
    from augcam.training.run import train

    began = time.perf_counter()
    strategy, devices = config.trainer.strategy, config.trainer.devices
    if in_sweep:
        from augcam.sweeps.arguments import refuse_relaunch

        refuse_relaunch(strategy)  # where the strategy varies, the command line could not tell
        if strategy == "auto" and devices != 1 and torch.cuda.device_count() > 1:
            raise UserError(
                f"trainer.devices={devices}: a sweep's job uses one device, trainer.devices=1, or "
                "several with trainer.strategy=ddp_fork"
            )
    result = train(config, folder)
    if had_finished or (torch.distributed.is_initialized() and torch.distributed.get_rank() > 0):
        return result.objective
    if result.signum is not None:
        again = folder.command_to_go_on(config)
        if in_sweep:
            place = shlex.quote(config.sweep.dir)
            again = f"python train.py -m with the same words and sweep.dir={place}"
        log.info("stopped, and all is kept. To go on: %s", again)
        sys.exit(128 + result.signum)
    if config.trainer.fast_dev_run:
        log.info("fast_dev_run: every part ran; no checkpoint and no metrics.json are kept")
        return result.objective
    get_console().print(results_table(result.metrics), markup=False)
    log.info(
        "%s in %.0f s, %.0f training images/s\naugcam board %s",
        result.metrics["status"], time.perf_counter() - began,
        result.metrics["train_images_per_second"], shlex.quote(str(folder)),
    )  # fmt: skip
    return result.objective


def help_text(conf: Path) -> str:
    """What `--help` says: the template of conf/hydra/help/augcam.yaml with every group's choices.

    Hydra 1.3 says the same, but copies all of its configs for each group that it lists: three seconds.
    """
    from omegaconf import OmegaConf

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
