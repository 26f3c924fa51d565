"""The config of a run folder, read as data: a folder can come from anybody.

Nothing in it is evaluated: no tag, no alias, no environment variable, no resolver. Folders of earlier
versions hold a few `${...}` of our own conf/, and those stand for what they stood for there.
"""

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from augcam.config.compose import flat
from augcam.config.schema import Config, validate
from augcam.errors import UserError, shown

MOST_BYTES = 256 * 1024  # a config has 3 KB
MOST_DEPTH = 20

DATA_ROOT = "${oc.env:AUGCAM_DATA,data}"
_CHOICE = "${hydra:runtime.choices.aug}"
_REFERENCES = ("${aug_name}", "${optim.lr}", "${sweep.name}")  # to keys of the same config

# Where a logger sends a run and where a callback writes is not for a folder to say: of a logger's
# arguments these are taken, of a callback's all but those that name a place.
_LOGGER_KEYS = {
    "_target_", "experiment_name", "flush_logs_every_n_steps", "group", "name", "offline", "project",
    "run_name", "save_dir", "tags",
}  # fmt: skip
_NAMES_A_PLACE = re.compile(
    r"(?<![a-z])(path|dir|file|folder)s?(?![a-z])|dirpath|filename|filepath|^(checkpoint|figures)$"
)
# And these are a place of ours, or the user's to say: a run that goes on writes into its own folder.
_LOGGER_PLACES = {"CSVLogger": ("save_dir", "name"), "TensorBoardLogger": ("save_dir", "name")}


def read(file: Path, hydra_file: Path) -> Config:
    """The config that a run folder's `.hydra/config.yaml` holds.

    Args:
        file: the config.
        hydra_file: Hydra's own settings, asked where the config leaves open which `aug` was chosen.

    Raises:
        UserError: it cannot be read, is more than plain YAML, or is no config of this program.
    """
    try:
        return from_record(_tree(file), lambda: _choice_of_hydra(hydra_file))
    except UserError as error:
        lines = str(error).splitlines()
        named = [line if line.startswith(str(file)) else f"{file}: {line}" for line in lines]
        raise UserError("\n".join(named)) from None


def to_give_again(file: Path) -> list[str]:
    """Keys of a run folder's config that are not taken from it, such as `logger.wandb.entity`.

    Raises:
        UserError: it cannot be read, or is more than plain YAML.
    """
    tree = _tree(file)
    groups = {group: tree.get(group) or {} for group in ("logger", "callbacks")}
    return sorted(
        flat(groups).keys() - flat({g: _taken(g, node) for g, node in groups.items()}).keys()
    )


def is_given_again(key: str) -> bool:
    """Whether a key, such as `callbacks.mine.out_dir`, is never taken from a run folder."""
    group, _, argument = [*key.split(".", 2), "", ""][:3]
    if group == "logger":
        return bool(argument) and argument.partition(".")[0] not in _LOGGER_KEYS
    return group == "callbacks" and any(map(_NAMES_A_PLACE.search, argument.split(".")))


def _tree(file: Path) -> dict[str, Any]:
    text = checked_text(file)
    try:
        tree: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (yaml.YAMLError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{file}: not a config ({_reason(error)})") from None
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise UserError(f"{file}: holds no config")
    return tree


def _taken(key: str, node: Any) -> Any:
    """A group of loggers or callbacks, or a part of one, without what a folder may not say."""
    if isinstance(node, dict):
        inside = {name: (f"{key}.{name}", child) for name, child in node.items()}
        return {n: _taken(k, child) for n, (k, child) in inside.items() if not is_given_again(k)}
    return [_taken(key, child) for child in node] if isinstance(node, list) else node


def from_record(tree: Mapping[str, Any], choice: Callable[[], str] | None = None) -> Config:
    """A recorded config, as config.yaml, metrics.json and checkpoints hold it, validated.

    Args:
        tree: plain values.
        choice: a function that says which `aug` was chosen, where the record leaves it open.

    Raises:
        UserError: one line for every key that is unknown, of the wrong type or out of range.
    """
    if "hydra" in tree:
        raise UserError("hydra: how the program runs is not for a run folder to say")
    plain = _with_references(tree, choice)
    data = plain.get("data")
    if isinstance(data, dict) and "_target_" not in data:
        data.pop("cache", None)  # where decoded images are written is the user's to say
    loggers = plain.get("logger")
    for logger in loggers.values() if isinstance(loggers, dict) else ():
        if isinstance(logger, dict):
            kind = str(logger.get("_target_")).rpartition(".")[2]
            for place in _LOGGER_PLACES.get(kind, ("save_dir",)):
                logger.pop(place, None)
    for group in {"logger", "callbacks"} & plain.keys():
        plain[group] = _taken(group, plain[group])
    return validate({**plain, "trust": []})


def checked_text(file: Path, references: bool = False) -> str:
    """The text of a YAML file of a run folder, known to be nested plain values and nothing more.

    Args:
        references: whether any `${...}` may be in it; otherwise only those of our own conf/.

    Raises:
        UserError: not a regular file, too large or too deep, or with tags or anchors.
    """
    try:
        if not file.is_file():
            raise UserError(f"{file}: there is no such file")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{file}: over {MOST_BYTES // 1024} KB, which no config is")
    try:
        text = content.decode("utf-8")
        for problem in _more_than_data(text, references):
            raise UserError(f"{file}: {problem}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a config ({_reason(error)})") from None
    return text


def _reason(error: Exception) -> str:
    """Why a file is not YAML, without quoting it: it may be a link to a file of secrets."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}: {getattr(error, 'problem', 'not YAML')}"
    return "not text" if isinstance(error, UnicodeDecodeError) else type(error).__name__


def _more_than_data(text: str, references: bool) -> Iterator[str]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            yield "anchors and aliases have no place in a config"
        if getattr(event, "tag", None):
            yield f"{shown(event.tag)}: tags have no place in a config"
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            yield f"over {MOST_DEPTH} levels deep, which no config is"
        if isinstance(event, yaml.ScalarEvent) and not references:
            rest = event.value
            for reference in (DATA_ROOT, _CHOICE, *_REFERENCES):
                rest = rest.replace(reference, "")
            if "${" in rest or event.value == "???":
                yield f"{shown(event.value)}: only plain values are read from a folder"


def _with_references(tree: Mapping[str, Any], choice: Callable[[], str] | None) -> dict[str, Any]:
    """The tree with the few `${...}` of our own conf/ written out; others stay, and are refused."""
    plain = copy.deepcopy(dict(tree))
    if plain.get("aug_name") == _CHOICE and choice is not None:
        plain["aug_name"] = choice()
    values: dict[str, Any] = {DATA_ROOT: os.environ.get("AUGCAM_DATA", "data")}
    for reference in _REFERENCES:
        value: Any = plain
        for key in reference[2:-1].split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is None or isinstance(value, (str, int, float)):
            values[reference] = value

    def written_out(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: written_out(child) for key, child in node.items()}
        if isinstance(node, list):
            return [written_out(child) for child in node]
        if not isinstance(node, str) or "${" not in node:
            return node
        if node in values:
            return values[node]
        for reference, value in values.items():
            node = node.replace(reference, str(value))
        return node

    return written_out(plain)


def _choice_of_hydra(hydra_file: Path) -> str:
    """Which `aug` was chosen, by Hydra's own record: runs stopped early had no other before 0.2."""
    record = yaml.safe_load(checked_text(hydra_file, references=True))
    try:
        return str(record["hydra"]["runtime"]["choices"]["aug"])
    except (KeyError, TypeError):
        raise UserError("aug_name: not recorded; give aug_name=... on the command line") from None
