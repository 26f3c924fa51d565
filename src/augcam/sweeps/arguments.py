"""The command line of a sweep: its folder, the names of its jobs, and what plugins need."""

import shlex
from collections.abc import Sequence
from datetime import datetime

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from augcam.config.compose import unique
from augcam.errors import UserError

# What a study of augmentations wants of a plugin, where its own default is another. Here, and not in
# conf/hydra: Hydra refuses a file of a name that a plugin has taken. What the user writes wins.
PLUGIN_DEFAULTS = {
    # The plugin's own value is refused by a cluster that runs already.
    "hydra/launcher=ray": ["+hydra.launcher.ray.init.object_store_memory=null"],
    "hydra/sweeper=optuna": [
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.max_failure_rate=1.0",
        "hydra.sweeper.sampler.seed=1",
    ],
}


def sweep_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line of a sweep with its folder settled and its jobs named by what varies.

    Without `-m` the arguments come back as they are. A sweep without `sweep.name` and `sweep.dir`
    gets a name of its own: every process of it must see the same. So with the token by which the
    overview knows the jobs of this start (file times would depend on two clocks).

    Raises:
        UserError: its jobs would start the whole sweep again, or its name is no folder's name.
    """
    if not {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    arguments = _own_processes(arguments)
    written = [a for a in arguments if "=" in a.lstrip("~+")[1:] or a.startswith(("~", "+"))]
    try:
        overrides = OverridesParser.create().parse_overrides([a for a in written if a[0] != "-"])
    except OverrideParseException:
        return arguments  # Hydra says what is wrong with it
    keys = {override.key_or_group for override in overrides}
    constant = {o.key_or_group: o for o in overrides if not o.is_sweep_override()}
    fixed = {key: str(override.value()) for key, override in constant.items()}
    refuse_relaunch(fixed.get("trainer.strategy") or fixed.get("trainer", ""))
    added = []
    if not {"sweep.dir", "hydra.sweep.dir"} & keys:
        name = _name(constant.get("sweep.name"))
        arguments = [a for a in arguments if not a.startswith("sweep.name=")]
        added.append(f"sweep.name='{name}'")
    added.append(f"hydra.callbacks.overview.start=start_{unique()}")
    if set(constant) != keys:
        left_out = ",".join(f"'{key}'" for key in sorted({*constant, "sweep.name", "sweep.dir"}))
        added.append(f"hydra.job.config.override_dirname.exclude_keys=[{left_out}]")
    for choice, defaults in PLUGIN_DEFAULTS.items():
        if choice in arguments:
            added += [
                default for default in defaults if default.split("=")[0].lstrip("+") not in keys
            ]
    return [*arguments, *added]


def _own_processes(arguments: Sequence[str]) -> list[str]:
    """`hydra/launcher=joblib` stays a name for jobs side by side, but not for joblib.

    With it, one killed job ends all the others: its workers are one pool.
    """
    joblib = "hydra/launcher=joblib"
    if joblib not in arguments:
        return list(arguments)
    own = ["hydra/launcher=processes" if a == joblib else a for a in arguments]
    if not any(a.startswith("hydra.launcher.n_jobs=") for a in arguments):
        own.append("hydra.launcher.n_jobs=-1")
    return own


def _name(given: Override | None) -> str:
    """The sweep's name: as it was written, `nan` and `2024` too; a new one where there is none.

    Raises:
        UserError: it is no name of one folder.
    """
    value = None if given is None else given.value()
    if given is None or value is None:
        return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{unique()}"
    assert given.input_line is not None
    name = str(value) if isinstance(value, str) else given.input_line.partition("=")[2].strip()
    if not name or name in (".", "..") or set(name) & set("/\\'\"$\n") or len(name) > 200:
        raise UserError(
            f"sweep.name={shlex.quote(name[:60])}: must be a name for one folder of outputs/sweeps/; "
            "sweep.dir=DIR takes a path"
        )
    return name


def refuse_relaunch(strategy: str) -> None:
    """Refuse a strategy whose further processes run the command again: here, the whole sweep.

    Raises:
        UserError: `strategy` is such a one, as ddp is.
    """
    if strategy.startswith("ddp") and not strategy.startswith(("ddp_fork", "ddp_notebook")):
        raise UserError(
            f"trainer.strategy={strategy}: it would start the whole sweep again on every rank; "
            "use trainer.strategy=ddp_fork in a sweep"
        )
