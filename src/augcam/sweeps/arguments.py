"""Many runs from one command: how their folders are named, how far they are, what failed.

A sweep's state is in its folders alone, so it is told the same way whether its jobs run one after
the other, side by side (joblib) or on other machines (submitit, Ray), and a sweep that is started
again finds what is done. Nothing here imports torch before a job does.
"""

from collections.abc import Sequence
from datetime import datetime

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from augcam.config.compose import unique
from augcam.errors import UserError

# What a study of augmentations wants of a plugin, where its own default is another. Here, and not in
# conf/hydra: Hydra refuses a file of a name that a plugin has taken. What the user says wins.
PLUGIN_DEFAULTS = {
    "hydra/launcher=joblib": ["hydra.launcher.n_jobs=${jobs_at_once:}"],
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
    gets a name of its own: every process of it must see the same.

    Raises:
        UserError: its jobs would start the whole sweep again.
    """
    if not {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    written = [a for a in arguments if "=" in a.lstrip("~+")[1:] or a.startswith(("~", "+"))]
    try:
        overrides = OverridesParser.create().parse_overrides([a for a in written if a[0] != "-"])
    except OverrideParseException:
        return list(arguments)  # Hydra says what is wrong with it
    keys = {override.key_or_group for override in overrides}
    said = {o.key_or_group: str(o.value()) for o in overrides if not o.is_sweep_override()}
    refuse_relaunch(said.get("trainer.strategy") or said.get("trainer", ""))
    added = []
    if not {"sweep.name", "sweep.dir", "hydra.sweep.dir"} & keys:
        added.append(f"sweep.name={datetime.now():%Y-%m-%d_%H-%M-%S}_{unique()}")
    constant = {o.key_or_group for o in overrides if not o.is_sweep_override()}
    if constant != keys:
        named = ",".join(f"'{key}'" for key in sorted(constant | {"sweep.name", "sweep.dir"}))
        added.append(f"hydra.job.config.override_dirname.exclude_keys=[{named}]")
    for choice, defaults in PLUGIN_DEFAULTS.items():
        if choice in arguments:
            added += [
                default for default in defaults if default.split("=")[0].lstrip("+") not in keys
            ]
    return [*arguments, *added]


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
