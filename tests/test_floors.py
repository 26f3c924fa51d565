"""Which way knowledge flows: a module imports from its own floor or from one below, never from above.

Read from the sources, function-level imports included.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import augcam

PACKAGE = Path(augcam.__file__).parent
# Top down. A name is a package or a module of augcam.
FLOORS = (
    {"cli", "api"},
    {"training", "sweeps", "audit", "report", "refine", "evaluation"},
    {"explain"},
    {"runs"},
    {"data", "models", "config", "statistics", "viz", "metrics"},
    {"atomic", "errors"},
)
# `augcam report` and the like, `python -m augcam`, and the lazy public names.
ENTRY_POINTS = {"__init__.py", "__main__.py", "preview.py", "evaluate.py"}
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not (path.name in ENTRY_POINTS and path.parent == PACKAGE) and path.name != "__main__.py"
)


def imports(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    """`augcam.report.load.Run` is in `report`."""
    return name.split(".")[1]


def floor(name: str) -> int:
    (number,) = (i for i, rooms in enumerate(FLOORS) if name in rooms)
    return number


def module(path: Path) -> str:
    return "augcam." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_import_goes_up(path):
    own = floor(room(module(path)))
    up = [
        name
        for name in imports(path)
        if name.startswith("augcam.") and room(name) != "__version__" and floor(room(name)) < own
    ]
    assert not up


# What a room must not know, though its floor would allow it.
STRANGERS = {
    "training": ("augcam.report",),
    "report": ("augcam.training", "pytorch_lightning", "lightning_fabric"),
    "sweeps": ("pytorch_lightning", "lightning_fabric"),
    "refine": ("augcam.training", "pytorch_lightning", "lightning_fabric"),
    "data": ("augcam.models", "augcam.explain", "hydra"),
    "models": ("augcam.data", "augcam.explain", "hydra"),
    "statistics": ("augcam.config", "augcam.data", "augcam.models", "hydra", "torch"),
}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_rooms_that_do_not_know_each_other(path):
    strangers = STRANGERS.get(room(module(path)))
    if strangers:
        assert not [name for name in imports(path) if name.startswith(strangers)]


def test_cam_stands_alone():
    names = set(imports(PACKAGE / "explain" / "cam.py"))
    own = {name for name in names if name.startswith("augcam.")}
    assert {room(name) for name in own} <= {"errors", "explain"}
    assert not any(name.startswith(("hydra", "pytorch_lightning")) for name in names)
