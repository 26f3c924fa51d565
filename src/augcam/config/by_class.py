"""Sparing classes: which of a pipeline's transforms to keep from them, and the words that ask for it."""

import re
from collections.abc import Collection, Mapping
from typing import Any

Aug = Mapping[str, Mapping[str, Any] | None]
Restricted = dict[str, dict[str, Any] | None]


def sparing(
    aug: Aug, baseline: Aug, spared: Collection[str], classes: Collection[str]
) -> Restricted:
    """The transforms that a pipeline has beyond the baseline's, kept from the spared classes.

    Those that the baseline has in the same form are not what differs, and stay as they are.

    Args:
        aug, baseline: transforms by name; None leaves one out.
        spared: names of classes.
        classes: names of all classes.

    Returns:
        The changed transforms by name; None where one has no class left. Empty where no transform
        that differs meets a spared class.
    """
    changed: Restricted = {}
    for name, step in aug.items():
        if not step or step == baseline.get(name):
            continue
        met = _met(step, classes)
        left = [one for one in met if one not in spared]
        if left == met:
            continue
        plain = {key: value for key, value in step.items() if key not in ("classes", "except")}
        if not left:
            changed[name] = None
        elif step.get("classes") is not None:
            changed[name] = plain | {"classes": left}
        else:
            changed[name] = plain | {"except": [one for one in classes if one not in left]}
    return changed


def _met(step: Mapping[str, Any], classes: Collection[str]) -> list[str]:
    """The classes whose images a transform meets, in the order of `classes`."""

    def names(key: str) -> set[str]:
        given = step.get(key)
        return {str(one) for one in (given if isinstance(given, list) else [given])}

    if step.get("classes") is not None:
        return [one for one in classes if one in names("classes")]
    return [one for one in classes if step.get("except") is None or one not in names("except")]


def sparing_words(restricted: Restricted) -> list[str]:
    """What the command line says for it: `aug.rotate.except=[cat,dog]`, `~aug.cutout`."""
    words = []
    for name, step in restricted.items():
        if step is None:
            words.append(f"~aug.{name}")
            continue
        key = "except" if "except" in step else "classes"
        words.append(f"aug.{name}.{key}=[{','.join(map(_quoted, step[key]))}]")
    return words


def _quoted(name: str) -> str:
    """A class's name in Hydra's grammar: whatever it might take for something else in quotes."""
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII)
    if plain and name.lower() not in ("null", "true", "false", "nan", "inf"):
        return name
    escaped = re.sub(r"(\\*)'", lambda m: m[1] * 2 + "\\'", name)
    return "'" + re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped) + "'"
