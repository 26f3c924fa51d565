"""Run folders with one file spoilt: strategies that give functions of a folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.integers(0, 100),
    st.sampled_from([[], {}, [[1], 2], {"x": None}, 1e400, 10**400, "x" * 3000, "${seed}", "a\0b",
                     "shapes", "resnet18", "cifar10", [1, 1, 1, 1], "os.system", "../..", "finished"]),
)  # fmt: skip


@st.composite
def bytes_spoilt(draw, files: Sequence[str]) -> Callable[[Path], None]:
    """A file cut short, with bytes changed, put in, doubled, zeroed, or replaced by a folder."""
    name = draw(st.sampled_from(files))
    kinds = ["cut", "flip", "flip", "insert", "double", "zeros", "folder", "gone", "noise", "empty"]
    kind = draw(st.sampled_from(kinds))
    where, some = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=6))

    def spoil(folder: Path) -> None:
        file = folder / name
        content = file.read_bytes()
        at = int(where * len(content))
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind != "gone":
            file.write_bytes({
                "cut": content[:at],
                "flip": content[:at] + some + content[at + len(some) :],
                "insert": content[:at] + some + content[at:],
                "double": content + content[at:],
                "zeros": content[:at] + bytes(len(content) - at),
                "noise": some,
                "empty": b"",
            }[kind])  # fmt: skip

    spoil.__name__ = f"{kind} {name}"
    return spoil


@st.composite
def value_spoilt(draw, files: Sequence[str]) -> Callable[[Path], None]:
    """One value of a YAML or JSON file replaced by another, taken away, or put beside."""
    name = draw(st.sampled_from(files))
    steps = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    odd, kind = draw(ODD), draw(st.sampled_from(["change", "change", "remove", "add"]))

    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        content = yaml.safe_load(text) if name.endswith("yaml") else json.loads(text)
        node: Any = content
        parent: Any = {"": content}
        key: Any = ""
        for step in steps:
            if isinstance(node, dict) and node:
                parent, key = node, sorted(node)[step % len(node)]
            elif isinstance(node, list) and node:
                parent, key = node, step % len(node)
            else:
                break
            node = parent[key]
        if kind == "remove":
            del parent[key]
        elif kind == "add" and isinstance(parent, dict):
            parent["odd"] = odd
        else:
            parent[key] = odd
        dump = yaml.safe_dump if name.endswith("yaml") else json.dumps
        (folder / name).write_text(dump(content))

    spoil.__name__ = f"{kind} {name} {steps} {str(odd)[:20]!r}"
    return spoil
