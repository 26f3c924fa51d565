"""What image augmentations do to a classifier: to its accuracy, class by class, and to where it looks.

    from augcam import GradCAM, load_run, train

Each name is imported when it is first used: `import augcam` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from augcam.api import load_run as load_run
    from augcam.api import train as train
    from augcam.explain.cam import GradCAM as GradCAM

__all__ = ["GradCAM", "__version__", "load_run", "train"]

_HOMES = {
    "GradCAM": "augcam.explain.cam",
    "load_run": "augcam.api",
    "train": "augcam.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("augcam")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'augcam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
