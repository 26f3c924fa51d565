"""The only composer: conf/ and overrides in Hydra's grammar -> one tree of plain values."""

import difflib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from augcam.errors import UserError, nearest, shown

# Beside the package in the wheel, beside src/ in a clone.
_PLACES = (Path(__file__).parents[1] / "conf", Path(__file__).parents[3] / "conf")
CONF = next((place for place in _PLACES if (place / "train.yaml").is_file()), _PLACES[0])

# What a search draws has 17 digits: in names six tell as much. What a person writes has fewer than 12.
_LONG_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d{11,}(?:e-?\d+)?(?![\w.])")


# Hydra makes these folders itself, and knows no home folder.
_MADE_BY_HYDRA = ("hydra.run.dir", "hydra.sweep.dir", "sweep.dir")


def unique() -> str:
    """Six random hex digits, so that runs of the same second share no folder."""
    return secrets.token_hex(3)


def folder_name(text: object) -> str:
    """A text as the name of one folder: no separators, not hidden, never too long for a disk."""
    short = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.6g}", str(text))
    name = re.sub(r"[^\w=.,+-]", "-", short).lstrip(".") or "-"
    if len(name) <= 150:
        return name
    return f"{name[:150]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def of_any_run(overrides: Iterable[str]) -> list[str]:
    """A run's overrides without what says where that one lay: the keys of Hydra and of its sweep."""
    return [o for o in overrides if not o.lstrip("+~").startswith(("hydra.", "sweep."))]


def opencv_constant(name: str) -> int:
    """The value of an OpenCV constant: `${cv2:BORDER_REFLECT_101}` in a config is 4.

    Raises:
        UserError: OpenCV has no such constant.
    """
    import cv2

    value = getattr(cv2, name, None)
    if type(value) is not int:  # the constants are: nothing callable is reached
        known = [key for key, number in vars(cv2).items() if type(number) is int]
        near = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "write ${cv2:BORDER_REFLECT_101}"
        raise UserError(f"{shown(name)} is not a constant of OpenCV; {hint}")
    return value


# On import, for the worker processes of a sweep too: they unpickle what the command line defines, and
# so come by here. `${unique:}` is cached, as Hydra's own `now` is: every look at one config sees the
# same. `${short:TEXT}` is TEXT as the name of one folder: no separators, and never too long for a disk.
OmegaConf.register_new_resolver("unique", unique, use_cache=True, replace=True)
OmegaConf.register_new_resolver("short", folder_name, replace=True)
OmegaConf.register_new_resolver("cv2", opencv_constant, replace=True)


def changes(overrides: Iterable[str], whole_steps: bool = False) -> str:
    """What a command line changes of the chosen augmentation, as a part of a name.

    `_-cutout` for `~aug.cutout`, `_+blur` for `+aug/op@aug.blur=blur`, `_rotate.limit=30`.

    Args:
        whole_steps: leave out what changes a parameter of a transform and no transform as a whole.
    """
    parts = []
    for override in overrides:
        key, _, value = override.partition("=")
        step = key.lstrip("~+").rpartition("@")[2].removeprefix("aug.")
        if not re.match(r"[~+]*(aug\.|aug/op@aug\.)", key) or (whole_steps and "." in step):
            continue
        if key.startswith("~") or value == "null":
            parts.append(f"-{step}")
        elif "@" in key:
            parts.append(f"+{step}" if value == step else f"+{step}={value}")
        else:
            parts.append(f"{step}={value}")
    return folder_name("".join(f"_{part}" for part in parts)) if parts else ""


def _changes() -> str:
    """`changes` of this command line, for the run's name."""
    from hydra.core.hydra_config import HydraConfig

    return changes(HydraConfig.get().overrides.task) if HydraConfig.initialized() else ""


OmegaConf.register_new_resolver("changes", _changes, replace=True)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The config that `augcam train OVERRIDES` composes, not yet validated."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    settled = [quoted(override) for override in overrides]
    check_choices(settled)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        tree = hydra_compose("train", settled, return_hydra_config=True)
    raw: Any = OmegaConf.to_container(tree, resolve=False)
    del raw["hydra"]
    # Names come from what was chosen, which only Hydra's own config knows.
    before, HydraConfig.instance().cfg = HydraConfig.instance().cfg, None
    HydraConfig.instance().set_config(tree)
    try:
        raw |= {key: tree[key] for key in ("aug_name", "name")}
    finally:
        HydraConfig.instance().cfg = before
    return OmegaConf.create(raw)


def sweep_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job that `augcam train -m OVERRIDES` would run: every combination.

    A search space of a sweeper such as Optuna, `interval(0,45)`, stays as it is written.

    Raises:
        UserError: a list, glob or range has no element, so that there would be no job.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        choices = []
        for override in parser.parse_overrides([quoted(o) for o in overrides]):
            written = override.input_line or ""
            if override.is_discrete_sweep():
                prefix = written.partition("=")[0]
                choices.append([f"{prefix}={v}" for v in override.sweep_string_iterator()])
            else:
                choices.append([written])
            if not choices[-1]:
                raise UserError(f"{shown(written)}: there is nothing of such a name or range")
    return [list(job) for job in product(*choices)]


def check_choices(overrides: Sequence[str]) -> None:
    """Refuse what Hydra 1.3 cannot in words: a choice of a group that is no name, `hydra.verbose=1`.

    Raises:
        UserError: naming the nearest choices.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    groups = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        group, value = override.key_or_group, override.value()
        names = value if isinstance(value, list) else [value]
        if not 0 < len(group) <= 200:
            raise UserError(f"{shown(override.input_line)}: write key=value")
        if group == "hydra.verbose" and not isinstance(value, (bool, str, list)):
            raise UserError(
                f"{shown(override.input_line)}: must be true, false or names of loggers"
            )
        # Hydra's own groups, of launchers and sweepers, come from plugins too.
        if override.is_sweep_override() or not (group in groups or group.startswith("hydra/")):
            continue
        for name in names:
            if name not in (None, "") and not isinstance(name, str):
                choices = [path.stem for path in (CONF / group).glob("[!_]*.yaml")]
                right = nearest(str(name), choices) if choices else "a choice is a name"
                raise UserError(f"{shown(override.input_line)}: unknown; {right}")


def quoted(override: str) -> str:
    """An override in Hydra's grammar, which has no home folders: a value that begins with `~`.

    The folder that a run or a sweep is to have is the home folder's; other values stay as written.

    And any transform can be kept to some classes: `aug.rotate.classes=[cat]` needs no `+`.
    """
    override = re.sub(r"^(?=aug\.\w+\.(classes|except)=)", "++", override)
    key, equals, value = override.partition("=")
    if key.startswith("~") or "~" not in value:
        return override
    at_home = os.path.expanduser if key.lstrip("+") in _MADE_BY_HYDRA else str
    return (
        key
        + equals
        + re.sub(r"(^|(?<=[,\[]))~[^,\]'\"]*", lambda home: f"'{at_home(home[0])}'", value)
    )


def continuation(recorded: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A primary config for Hydra: that of a run which goes on in its folder.

    Its values are the recorded ones, plain and validated; what Hydra itself does comes from the
    installed conf/train.yaml. No group is chosen, so that an override of one still can.
    """
    installed: Any = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml"), resolve=False)
    groups = [entry for entry in installed["defaults"] if entry != "_self_"]
    defaults = [
        group if key.startswith("override ") else {key: None} for group in groups for key in group
    ]
    hydra = installed["hydra"] | {"run": {"dir": str(folder)}}
    # `trust` is never recorded, and may be given again.
    return {**recorded, "trust": [], "defaults": ["_self_", *defaults], "hydra": hydra}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as {"a.b.c": value}."""
    flattened: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flattened |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flattened
