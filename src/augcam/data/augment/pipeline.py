"""The random part of an augmentation, image by image: every number from (seed, epoch, index) alone.

Only `augcam.data.augment` and `augcam.data.corruptions` know Albumentations.
"""

import difflib
import inspect
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np
from pydantic import ValidationError

from augcam.data.augment.ops import (
    _TRANSFORMS,
    AlternatingFlip,
    CoarseDropout,
    Cutout,
    PadCrop,
    Rotate,
)
from augcam.data.augment.policies import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from augcam.errors import UserError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks online for a newer version


cv2.setNumThreads(0)  # images are too small to share one among threads


_MASK = (1 << 64) - 1


_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(value: int) -> int:
    """SplitMix64's step and finaliser, a bijection of 64 bits (Steele, Lea, Flood, OOPSLA 2014)."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class _SplitMix(random.Random):
    """Python's `random.Random` on SplitMix64, which is reseeded by setting one integer.

    The Mersenne Twister of `random.Random` takes 4.6 µs for that, as long as a flip. All other
    methods (uniform, randint, choice, shuffle ...) draw through these two.
    """

    position = 0

    def random(self) -> float:
        position = self.position
        self.position = (position + _GOLDEN) & _MASK
        return (_mixed(position) >> 11) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        bits = 0
        for _ in range(0, k, 64):
            bits = bits << 64 | _mixed(self.position)
            self.position = (self.position + _GOLDEN) & _MASK
        return bits >> (-k % 64)


class Pipeline:
    """The random part of an Albumentations pipeline, with a random stream of its own per sample.

    What happens to a sample is a pure function of (seed, epoch, index): the same in any process, in
    any order and after a resume. All transforms draw from one stream, one after the other;
    Albumentations' own seeding gives each transform the same numbers, so that two flips with p=0.5
    always agree. Without transforms, images come back as they are.

    Args:
        transforms: Albumentations transforms by name, in the order in which they are applied.
        seed: the run's seed.
    """

    def __init__(self, transforms: Mapping[str, A.BasicTransform], seed: int) -> None:
        self.transforms = dict(transforms)
        self.seed = seed
        self._steps = tuple(self.transforms.values())
        self._python = _SplitMix()
        self._numpy = np.random.Generator(np.random.PCG64(0))
        for transform in self._steps:
            transform.set_random_state(self._numpy, self._python)
        self._numpy_state: Any = self._numpy.bit_generator.state  # has_uint32 is 0: nothing is left
        self._seed_key = _mixed(seed & _MASK)
        self._epoch, self._epoch_key = 0, _mixed(self._seed_key)
        self._alternating = [step for step in self._steps if isinstance(step, AlternatingFlip)]

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """One augmented draw.

        Args:
            image: uint8 (H, W, 3).
            epoch: 0, 1, ...; another epoch is another draw.
            index: the sample's number in its set.

        Returns:
            uint8 (H, W, 3).
        """
        if epoch != self._epoch:
            self._epoch, self._epoch_key = epoch, _mixed((self._seed_key + epoch) & _MASK)
        key = _mixed((self._epoch_key + index) & _MASK)
        python = self._python
        python.position = key
        numpy_is_seeded = False
        for flip in self._alternating:
            flip.turn = epoch + (_mixed(((self._seed_key ^ _MASK) + index) & _MASK) & 1)
        for transform in self._steps:
            # The coin that BasicTransform.should_apply would toss, from the same stream: what is
            # not applied costs one draw and no call.
            if transform.p < 1 and python.random() >= transform.p:
                continue
            if not numpy_is_seeded:
                # 128 bits of state from the key; the increment, PCG64's choice of sequence, stays.
                other = key ^ _MASK
                self._numpy_state["state"]["state"] = _mixed(other) << 64 | _mixed(other ^ 1)
                self._numpy.bit_generator.state = self._numpy_state
                numpy_is_seeded = True
            image = transform(force_apply=True, image=image)["image"]
        return image

    def check(self, image: np.ndarray) -> None:
        """Apply each transform once to `image`, uint8 (H, W, 3), so that a misfit shows at once.

        Raises:
            UserError: a transform fails on such an image, or changes its size or type.
        """
        for name, transform in self.transforms.items():
            said = f"aug.{name}: {type(transform).__name__}"
            try:
                result = transform(force_apply=True, image=image.copy())["image"]
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{said} fails on an image of {image.shape}: {reason}") from None
            made = f"{getattr(result, 'dtype', '')} {tuple(getattr(result, 'shape', ()))}"
            if made != f"{image.dtype} {image.shape}":
                raise UserError(
                    f"{said} makes {made} of {image.dtype} {image.shape}: every image must keep "
                    "its size and type (Normalize and ToTensorV2 end every pipeline by themselves)"
                )


_TRANSFORMS |= {
    f"augcam.data.augment.{kind.__name__}": kind
    for kind in (
        PadCrop,
        Cutout,
        AlternatingFlip,
        RandAugment,
        TrivialAugmentWide,
        AutoAugment,
        AugMix,
    )
}


_TRANSFORMS |= {f"albumentations.{kind.__name__}": kind for kind in (Rotate, CoarseDropout)}


def build(aug: Mapping[str, Mapping[str, Any] | None], seed: int) -> Pipeline:
    """The pipeline that a config describes.

    Args:
        aug: transforms by name, in order: `{"flip": {"_target_": "albumentations.HorizontalFlip",
            "p": 0.5}}`. None leaves a transform out. A value may name an OpenCV constant:
            `{"_target_": "hydra.utils.get_object", "path": "cv2.BORDER_REFLECT_101"}`.
        seed: the run's seed.

    Raises:
        UserError: one line for every transform or argument that is unknown or out of range.
    """
    transforms: dict[str, A.BasicTransform] = {}
    problems: list[str] = []
    for name, settings in aug.items():
        if settings is None:
            continue
        try:
            transforms[name] = _transform(f"aug.{name}", settings)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return Pipeline(transforms, seed)


def _transform(key: str, settings: Mapping[str, Any]) -> A.BasicTransform:
    target = settings.get("_target_")
    kind = _TRANSFORMS.get(str(target))
    if kind is None:
        near = _nearest(str(target), list(_TRANSFORMS), cutoff=0.85)  # most begin alike
        raise UserError(
            f"{key}._target_={target}: no such transform; {near}"
            "any transform of Albumentations 2 can be named, as albumentations.Rotate"
        )
    valid = [name for name in inspect.signature(kind).parameters if name != "strict"]
    problems: list[str] = []
    arguments: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "_target_":
            continue
        if name not in valid:
            problems.append(
                f"{key}: {kind.__name__} has no argument {name!r}; {_nearest(name, valid)}"
                f"valid: {', '.join(valid)}"
            )
            continue
        try:
            arguments[name] = _constant(f"{key}.{name}", value)
        except UserError as error:
            problems.append(str(error))
    try:
        transform = kind(**arguments)
    except Exception as error:  # whatever a constructor says is about the request
        problems += _in_words(key, kind, error)
    if problems:
        raise UserError("\n".join(problems))
    return transform


def _constant(key: str, value: Any) -> Any:
    """`value`, or the OpenCV constant that it names."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    path = str(value.get("path"))
    name = path.removeprefix("cv2.")
    constant = getattr(cv2, name, None)
    if value["_target_"] != "hydra.utils.get_object" or name == path or type(constant) is not int:
        near = _nearest(name, [known for known, number in vars(cv2).items() if type(number) is int])
        raise UserError(
            f"{key}: {path} is no constant of OpenCV; {near}"
            "write {_target_: hydra.utils.get_object, path: cv2.BORDER_REFLECT_101}"
        )
    return constant


def _nearest(name: str, valid: Sequence[str], cutoff: float = 0.4) -> str:
    near = difflib.get_close_matches(name, valid, n=2, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}? " if near else ""


def _in_words(key: str, kind: type[A.BasicTransform], error: Exception) -> list[str]:
    """One line for each value that a transform refuses."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [f"{key}: {kind.__name__}: {' '.join(str(error).split())[:200]}"]
    said: dict[str, list[str]] = {}
    for problem in cause.errors(include_url=False):
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        where = problem["loc"]
        if not where:
            said.setdefault(f"{key}: {kind.__name__}", []).append(message)
        elif problem["type"] == "missing":
            said.setdefault(f"{key}.{where[0]}", []).append(f"{kind.__name__} needs a value")
        else:
            said.setdefault(f"{key}.{where[0]}={problem['input']}", []).append(message)
    return [f"{place}: {' or '.join(dict.fromkeys(words))}" for place, words in said.items()]
