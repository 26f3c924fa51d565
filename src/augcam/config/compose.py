"""Where the configuration is, and what its `${name:...}` stand for."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONF = Path(__file__).parents[3] / "conf"


def unique() -> str:
    """Six random hex digits, so that runs of the same second share no folder."""
    return secrets.token_hex(3)


def _folder_name(text: str) -> str:
    name = re.sub(r"[^\w=.,+-]", "-", text)
    if len(name) <= 150:
        return name
    return f"{name[:150]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


# On import, for the worker processes of a sweep too: they unpickle what train.py defines, and so come
# by here. `${unique:}` is cached, as Hydra's own `now` is: every look at one config sees the same.
# `${short:TEXT}` is TEXT as the name of one folder: no separators, and never too long for a disk.
OmegaConf.register_new_resolver("unique", unique, use_cache=True, replace=True)


OmegaConf.register_new_resolver("short", _folder_name, replace=True)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as {"a.b.c": value}."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found
