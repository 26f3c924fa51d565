"""The command lines that made a study, or would add to it."""

import shlex
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from augcam.config.by_class import sparing, sparing_words
from augcam.config.compose import of_any_run
from augcam.config.schema import Config

if TYPE_CHECKING:
    from augcam.report.load import Run

EVALUATE = "augcam evaluate run="
REFINE = "augcam refine "


def sweep_commands(
    groups: dict[str, tuple["Run", ...]], seeds: Iterable[int] | None = None
) -> list[str]:
    """The command lines that made the groups' runs, those of one sweep as one line.

    Args:
        seeds: in place of the runs' own.
    """
    asked: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for run in chain(*groups.values()):
        overrides = run.folder.overrides()
        if overrides is None:
            continue
        aug = next((o for o in overrides if o.startswith("aug=")), "")
        rest = tuple(o for o in of_any_run(overrides) if not o.startswith(("aug=", "seed=")))
        asked.setdefault(rest, {}).setdefault(aug, []).append(run.seed)
    wanted = list(seeds) if seeds is not None else None
    lines = []
    for rest, augs in asked.items():
        # Augmentations with the same seeds stand in one line.
        by_seeds: dict[tuple[bool, tuple[int, ...]], list[str]] = {}
        for aug, own in augs.items():
            # Without aug=, for the default pipeline, there is no name to stand among the others.
            key = bool(aug), tuple(wanted or sorted(set(own)))
            by_seeds.setdefault(key, []).append(aug)
        for (_, chosen), names in by_seeds.items():
            values = ",".join(name.removeprefix("aug=") for name in names)
            words = [f"aug={values}"] if values else []
            words.append(f"seed={','.join(map(str, chosen))}")
            several = "-m " if len(names) > 1 or len(chosen) > 1 else ""
            written = " ".join(shlex.quote(word) for word in (*words, *rest))
            lines.append(f"python train.py {several}{written}")
    return lines


def sparing_command(runs: tuple["Run", ...], baseline: Config, hurt: Sequence[str]) -> str:
    """The command that trains a group's pipeline kept from the classes that it hurts.

    "" where it has no transform to keep from them beyond the baseline's, or its command is not known.
    """
    config = runs[0].config
    theirs = baseline.aug if baseline.aug_strength == config.aug_strength else {}
    restricted = sparing(config.aug, theirs, hurt, runs[0].metrics.get("classes") or ())
    commands = sweep_commands({"": runs})
    if not restricted or len(commands) != 1:
        return ""
    return " ".join((commands[0], *map(shlex.quote, sparing_words(restricted))))
