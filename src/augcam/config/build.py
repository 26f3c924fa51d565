"""The only instantiate: `_target_` and arguments -> an object, if an allow-list lets it in.

A config, a run folder's above all, can come from anybody, and `_target_` names something that is called.
So only classes are built, of the packages below and of the kind that is asked for, beside a few
registered factories; functions that read or write files are none of them. Packages of the user's own are
let in by `trust=[mypackage]` on the command line, for this process.
"""

import importlib
import math
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from augcam.errors import UserError, nearest, shown

Built = TypeVar("Built")

PACKAGES = (
    "albumentations", "augcam", "pytorch_lightning.callbacks", "pytorch_lightning.loggers", "timm",
    "torch.nn", "torch.optim", "torchmetrics", "torchvision",
)  # fmt: skip

# What may stand inside another object's arguments, by the base class's full name: none is imported here.
KINDS = {
    "albumentations.core.composition.BaseCompose",
    "albumentations.core.transforms_interface.BasicTransform",
    "torch.nn.modules.module.Module",
    "torchvision.transforms.v2._transform.Transform",
}

# Functions that build a network from the name of an architecture.
FACTORIES = {"timm.create_model", "torchvision.models.get_model"}

# The one function of Hydra that older configs name: an integer constant of OpenCV.
CONSTANT = "hydra.utils.get_object"

_trusted: set[str] = set()


def trust(packages: Iterable[str]) -> None:
    """Let in classes of the user's own packages, found from the working directory too."""
    if new := set(packages) - _trusted:
        _trusted.update(new)
        here = str(Path.cwd())
        if here not in sys.path:  # a console script does not look here, `python -m` does
            sys.path.append(here)


def trust_given(arguments: Iterable[str]) -> list[str]:
    """A command's arguments without `trust=[mypackage,...]`, whose packages are let in."""
    given = [argument for argument in arguments if argument.startswith("trust=")]
    for argument in given:
        trust(re.findall(r"[\w.]+", argument.removeprefix("trust=")))
    return [argument for argument in arguments if argument not in given]


def trusted_packages() -> frozenset[str]:
    """The packages that `trust` has let in."""
    return frozenset(_trusted)


def refusals(node: Any, key: str = "", trusted: Iterable[str] = ()) -> list[str]:
    """One line for each `_target_` below `node` that no list lets in. Nothing is imported.

    Args:
        node: plain values.
        key: of `node` in the config.
        trusted: packages beside those that `trust` has let in.
    """
    if isinstance(node, (list, tuple)):
        return [line for i, n in enumerate(node) for line in refusals(n, f"{key}.{i}", trusted)]
    if not isinstance(node, Mapping):
        return []
    lines = [
        line for k, n in node.items() for line in refusals(n, f"{key}.{k}".lstrip("."), trusted)
    ]
    if "_target_" not in node:
        return lines
    target, own = node["_target_"], [k for k in node if str(k).startswith("_") and k != "_target_"]
    lines += [f"{key}.{name}: there is no such key" for name in own]
    if target == CONSTANT:
        path = str(node.get("path"))
        if not path.startswith("cv2.") or path.count(".") != 1:
            lines.append(
                f"{key}.path={shown(path)}: only a constant of OpenCV, as cv2.BORDER_REFLECT_101"
            )
    elif not isinstance(target, str) or not _is_allowed(target, trusted):
        lines.append(
            f"{key}._target_={shown(target)}: only what {', '.join(PACKAGES)} define may be built, and "
            "what trust=[mypackage] lets in"
        )
    return lines


def packages_to_trust(node: Any) -> list[str]:
    """The packages below `node` that are let in by `trust` alone, sorted; `node` as for `refusals`."""
    return sorted({target.partition(".")[0] for target in _targets(node) if not _is_known(target)})


def _targets(node: Any) -> Iterable[str]:
    if isinstance(node, Mapping) and "_target_" in node and node["_target_"] != CONSTANT:
        yield str(node["_target_"])
    inside = node.values() if isinstance(node, Mapping) else node
    for child in inside if isinstance(node, (Mapping, list, tuple)) else ():
        yield from _targets(child)


def _is_known(target: str) -> bool:
    return target.startswith(tuple(f"{package}." for package in PACKAGES))


def _is_allowed(target: str, trusted: Iterable[str] = ()) -> bool:
    parts = target.split(".")
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return False
    return is_within(target, (*PACKAGES, *_trusted, *trusted))


def is_within(target: str, packages: Iterable[str]) -> bool:
    """Whether a dotted name stands in one of the packages, or in a part of one."""
    return any(target.startswith(f"{package}.") for package in packages)


def build(node: Mapping[str, Any], kind: type[Built], key: str, /, **extra: Any) -> Built:
    """The object that `node` describes: `_target_`, and its arguments, which may hold further ones.

    Args:
        node: plain values of the config.
        kind: what it must be: a subclass of this is built, or what a registered factory makes.
        key: of `node` in the config, for messages.
        extra: further arguments, of any type.

    Raises:
        UserError: nothing of that name, nothing that may be built, or arguments that it refuses.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if problems := refusals(node, key) + unfit(node, key):
        raise UserError("\n".join(problems))
    target = str(node.get("_target_"))
    _check(target, key, kind)
    for inner, path in _nested(node, key):
        _check(inner, path, None)
    try:
        # Partly first: Hydra would copy what is in `extra`, parameters of a network among it.
        made = instantiate({**node, "_partial_": True}, _convert_="all")(**extra)
    except InstantiationException as error:
        reason: BaseException = error.__cause__ or error
        raise UserError(f"{key}: {target}: {shown(reason, 200)}") from None
    except (TypeError, ValueError, ArithmeticError, ImportError, AttributeError) as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        name = unknown.group(1) if unknown else ""
        advice = f"; remove it with ~{key}.{name}" if name in node else ""
        raise UserError(f"{key}: {target}: {shown(error, 200)}{advice}") from None
    if not isinstance(made, kind):
        raise UserError(f"{key}._target_={target}: makes no {kind.__name__}")
    return made


def located(target: str, key: str) -> Any:
    """What an allowed name stands for.

    Raises:
        UserError: no list lets it in, or there is nothing of that name; with the nearest names.
    """
    if problems := refusals({"_target_": target}, key):
        raise UserError("\n".join(problems))
    parts = target.split(".")
    module, rest = None, parts
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            module, rest = importlib.import_module(name), parts[length:]
            break
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise UserError(
                    f"{key}._target_={target}: needs the package {error.name}"
                ) from None
    if module is None:
        raise UserError(f"{key}._target_={shown(target)}: there is no package {parts[0]}")
    value: Any = module
    for part in rest:
        if not hasattr(value, part):
            public = [n for n, v in vars(value).items() if n[0] != "_" and isinstance(v, type)]
            raise UserError(
                f"{key}._target_={shown(target)}: there is no such class; {nearest(part, public)}"
            )
        value = getattr(value, part)
    return value


def _check(target: str, key: str, kind: type | None) -> None:
    if target in FACTORIES and kind is not None and kind.__module__.startswith("torch.nn."):
        return
    value = located(target, key)
    bases = value.__mro__ if isinstance(value, type) else ()
    fits = (
        kind in bases
        if kind is not None
        else any(f"{base.__module__}.{base.__qualname__}" in KINDS for base in bases)
    )
    if not fits:
        what = kind.__name__ if kind is not None else "transform or layer"
        article = "an" if what[0] in "AEIOU" else "a"
        raise UserError(f"{key}._target_={shown(target)}: is not {article} {what}")


def _nested(node: Any, key: str) -> Iterable[tuple[str, str]]:
    inside = node.items() if isinstance(node, Mapping) else enumerate(node)
    for name, child in inside:
        path = f"{key}.{name}"
        if isinstance(child, Mapping) and "_target_" in child and child["_target_"] != CONSTANT:
            yield str(child["_target_"]), path
        if isinstance(child, (Mapping, list, tuple)):
            yield from _nested(child, path)


def unfit(node: Any, key: str = "") -> list[str]:
    """One line for each value that no config can hold: NaN, infinity, an unresolved `${...}`."""
    if isinstance(node, Mapping):
        children: Iterable[tuple[Any, Any]] = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    elif isinstance(node, float) and not math.isfinite(node):
        return [f"{key}={node}: must be a finite number"]
    elif isinstance(node, str) and "${" in node:
        return [
            f"{key}={shown(node)}: ${{...}} is resolved when a config is composed, and not here"
        ]
    else:
        return []
    return [line for name, child in children for line in unfit(child, f"{key}.{name}".lstrip("."))]
