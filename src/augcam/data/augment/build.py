"""From a config's mapping to a `Pipeline`: which transforms may be named, and what is wrong in words.

build_pipeline({"flip": {"_target_": "albumentations.HorizontalFlip", "p": 0.5}}, seed=1)
"""

import difflib
import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from augcam.config.build import is_within
from augcam.data.augment import ops, policies
from augcam.data.augment.pipeline import Pipeline, Transform
from augcam.data.augment.strength import weakened
from augcam.data.datasets.base import Channels
from augcam.errors import UserError, pydantic_message

# isort: split
import albumentations as A

# What holds other transforms. A pipeline's outermost composition is the mapping itself.
_COMPOSITIONS = (
    A.OneOf, A.SomeOf, A.RandomOrder, A.OneOrOther, A.Sequential, A.SelectiveChannelTransform,
)  # fmt: skip

_KNOWN: dict[str, type] = {
    f"albumentations.{name}": kind
    for name, kind in vars(A).items()
    if isinstance(kind, type) and (issubclass(kind, A.BasicTransform) or kind in _COMPOSITIONS)
}
_KNOWN |= {
    f"augcam.data.augment.{kind.__name__}": kind
    for kind in (
        ops.PadCrop,
        ops.Cutout,
        ops.AlternatingFlip,
        policies.RandAugment,
        policies.TrivialAugmentWide,
        policies.AutoAugment,
        policies.AugMix,
    )
}


def build_pipeline(
    aug: Mapping[str, Mapping[str, Any] | None],
    seed: int,
    mean: Callable[[], Channels] | None = None,
    trusted: Collection[str] = (),
    classes: Callable[[], Sequence[str]] | None = None,
    strength: float = 1.0,
) -> Pipeline:
    """The pipeline that a config describes.

    Args:
        aug: transforms by name, in order: `{"flip": {"_target_": "albumentations.HorizontalFlip",
            "p": 0.5}}`. None leaves a transform out. A composition's `transforms` are a list or
            such a mapping. `fill: mean` is the data set's mean colour. `classes: [cat]` keeps one
            of the outermost to images of these classes, `except: [cat]` to those of all others.
        seed: the run's seed.
        mean: gives the data set's mean of each channel, 0..1; called where `fill: mean` is asked.
        trusted: packages whose transforms may be named too, beside Albumentations' and AugCAM's.
        classes: gives the data set's class names, in the order of the labels; called where
            `classes` or `except` is asked.
        strength: 0 to 1, scales ranges and probabilities together: see `strength.TABLE`.

    Raises:
        UserError: one line for every transform or argument that is unknown or out of range.
    """
    only: dict[str, list[int]] = {}
    problems: list[str] = []
    plain: dict[str, Any] = {}
    for name, settings in aug.items():
        if not isinstance(settings, Mapping):
            plain[name] = settings
            continue
        plain[name] = {key: value for key, value in settings.items() if key not in BY_CLASS}
        try:
            labels = _labels(f"aug.{name}", settings, classes)
        except UserError as error:
            problems.append(str(error))
        else:
            if labels is not None:
                only[name] = labels
    try:
        transforms = _Builder(mean, trusted, strength).each("aug", plain)
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return Pipeline(transforms, seed, only)


BY_CLASS = ("classes", "except")  # keys of a transform that say which images it is for


def _labels(
    key: str, settings: Mapping[str, Any], classes: Callable[[], Sequence[str]] | None
) -> list[int] | None:
    """The labels that `classes` or `except` leave to a transform; None where it is for all.

    Raises:
        UserError: both are given, a name is no class's, or no class is left.
    """
    given = {name: settings[name] for name in BY_CLASS if settings.get(name) is not None}
    if not given:
        return None
    if len(given) > 1:
        raise UserError(
            f"{key}: classes={_listed(given['classes'])} and except={_listed(given['except'])}: "
            "give one of the two"
        )
    ((word, value),) = given.items()
    if classes is None:
        raise UserError(f"{key}.{word}={_listed(value)}: the data set's classes are not known here")
    known = list(classes())
    wanted = [value] if isinstance(value, str | int) else value
    if not isinstance(wanted, Sequence) or any(isinstance(one, Mapping | list) for one in wanted):
        raise UserError(f"{key}.{word}={value}: a list of class names is needed")
    names = [str(name) for name in wanted]
    if problems := [
        f"{key}.{word}: {name}: there is no such class; {_nearest(name, known)}"
        f"classes: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}"
        for name in names
        if name not in known
    ]:
        raise UserError("\n".join(problems))
    kept = [i for i, name in enumerate(known) if (name in names) == (word == "classes")]
    if not kept:
        raise UserError(
            f"{key}.{word}={_listed(value)}: no class is left for it; ~{key} leaves a transform out"
        )
    return kept if len(kept) < len(known) else None


def _listed(value: Any) -> str:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return f"[{','.join(map(str, value))}]" if listed else str(value)


class _Builder:
    """Builds transforms one inside the other; `key` is where in the config each stands."""

    def __init__(
        self,
        mean: Callable[[], Channels] | None,
        trusted: Collection[str],
        strength: float,
    ) -> None:
        self.mean = mean
        self.trusted = trusted
        self.strength = strength

    def each(
        self, key: str, settings: Mapping[str, Any], part: bool = False
    ) -> dict[str, Transform]:
        """The transforms of a mapping. Raises UserError with the problems of all of them."""
        transforms: dict[str, Transform] = {}
        problems: list[str] = []
        for name, one in settings.items():
            if one is None:
                continue
            if isinstance(one, Mapping) and "_target_" not in one:
                others = [n for n, other in settings.items() if other and "_target_" in other]
                problems.append(
                    f"{key}.{name}._target_: no such transform here; {_nearest(name, others)}"
                    "a new one needs its class, as albumentations.Rotate"
                )
                continue
            try:
                transforms[name] = self.transform(f"{key}.{name}", one, part)
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError("\n".join(problems))
        return transforms

    def transform(self, key: str, settings: Any, part: bool) -> Transform:
        """One transform or composition, or a part of one. Raises UserError, a line for each problem."""
        if not isinstance(settings, Mapping):
            raise UserError(f"{key}={settings}: a transform is {{_target_: ..., its arguments}}")
        kind = self._kind(key, str(settings.get("_target_")))
        if misplaced := [name for name in BY_CLASS if name in settings]:
            raise UserError(
                f"{key}.{misplaced[0]}: only a whole entry of aug can be kept to some classes, "
                "not a part of it"
            )
        parameters = inspect.signature(kind).parameters
        valid = [
            name
            for name, one in parameters.items()
            if name not in _NOT_SET and one.kind not in _REST
        ]
        # What goes into **kwargs is for the constructor to judge.
        takes_others = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        problems: list[str] = []
        arguments: dict[str, Any] = {}
        unusable = False
        for name, value in settings.items():
            if name == "_target_":
                continue
            if name not in valid and (name in _NOT_SET or not takes_others):
                problems.append(
                    f"{key}: {kind.__name__} has no argument {name!r}; {_nearest(name, valid)}"
                    f"valid: {', '.join(valid)}"
                )
                continue
            try:
                arguments[name] = self._argument(f"{key}.{name}", name, kind, value)
            except UserError as error:
                problems.append(str(error))
                unusable = True
        if unusable:
            raise UserError("\n".join(problems))
        if self.strength != 1 and not problems:
            try:
                arguments = weakened(kind, arguments, self.strength, part)
            except ValueError as error:
                raise UserError(f"{key}: aug_strength={self.strength:g}: {error}") from None
        transform = None
        try:
            with warnings.catch_warnings():
                # All that Albumentations does about an argument that **kwargs let through.
                warnings.filterwarnings("error", r"Argument\(s\) .* not valid", UserWarning)
                transform = ops.FASTER.get(kind, kind)(**arguments)
        except Exception as error:  # whatever a constructor says is about the request
            problems += _in_words(key, kind, error)
        if problems or transform is None:
            raise UserError("\n".join(problems))
        return transform

    def _kind(self, key: str, target: str) -> type:
        if target in _KNOWN:
            return _KNOWN[target]
        module, _, name = target.rpartition(".")
        if is_within(target, self.trusted):
            try:
                kind = getattr(importlib.import_module(module), name, None)
            except ImportError as error:
                raise UserError(f"{key}._target_={target}: {error}") from None
            if isinstance(kind, type) and issubclass(kind, A.BasicTransform | A.BaseCompose):
                return kind
            raise UserError(
                f"{key}._target_={target}: no transform; a class derived from "
                "albumentations.BasicTransform is needed"
            )
        raise UserError(
            f"{key}._target_={target}: no such transform; "
            f"{_nearest(target, list(_KNOWN), cutoff=0.85)}"  # most begin alike
            "any transform of Albumentations 2 can be named, as albumentations.Rotate"
        )

    def _argument(self, key: str, name: str, kind: type, value: Any) -> Any:
        if issubclass(kind, A.BaseCompose):
            if name == "transforms":
                return self._parts(key, value)
            if name in ("first", "second"):
                return self.transform(key, value, part=True)
            if name == "n" and not (isinstance(value, int) and value >= 1):
                raise UserError(f"{key}={value}: a number of transforms is needed, 1 or more")
            if name == "p" and not (_is_number(value) and 0 <= value <= 1):
                raise UserError(f"{key}={value}: a probability is needed, 0 to 1")
        if name == "fill" and value == "mean":
            if self.mean is None:
                raise UserError(f"{key}=mean: the data set's mean is not known here")
            return [round(channel * 255) for channel in self.mean()]
        if any(not math.isfinite(number) for number in _numbers(value)):
            raise UserError(f"{key}={value}: a finite number is needed")
        return value

    def _parts(self, key: str, value: Any) -> list[Transform]:
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = {str(number): one for number, one in enumerate(value)}
        if not isinstance(value, Mapping) or not value:
            raise UserError(f"{key}={value}: a list of transforms, or a mapping by name, is needed")
        parts = list(self.each(key, value, part=True).values())
        if not parts:
            raise UserError(f"{key}: every transform is left out")
        return parts


# `strict` belongs to the caller of a transform; a stream of its own would break the sample's.
_NOT_SET = ("strict", "seed", "save_applied_params")

_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _numbers(part)


def _nearest(name: str, valid: Sequence[str], cutoff: float = 0.4) -> str:
    near = difflib.get_close_matches(name, valid, n=2, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}? " if near else ""


def _in_words(key: str, kind: type, error: Exception) -> list[str]:
    """One line for each value that a transform refuses."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [f"{key}: {kind.__name__}: {' '.join(str(error).split())[:200]}"]
    messages: dict[str, list[str]] = {}
    for problem in cause.errors(include_url=False):
        message = pydantic_message(problem)
        where = problem["loc"]
        if not where:
            messages.setdefault(f"{key}: {kind.__name__}", []).append(message)
        elif problem["type"] == "missing":
            messages.setdefault(f"{key}.{where[0]}", []).append(f"{kind.__name__} needs a value")
        else:
            messages.setdefault(f"{key}.{where[0]}={problem['input']}", []).append(message)
    return [f"{place}: {' or '.join(dict.fromkeys(words))}" for place, words in messages.items()]
