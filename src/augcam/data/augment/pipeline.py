"""The random stream of a sample: every number of an augmentation from (seed, epoch, index) alone."""

import math
import os
import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks online for a newer version

import albumentations as A
import cv2
import numpy as np

from augcam.data.augment.ops import AlternatingFlip
from augcam.data.augment.policies import AugMix
from augcam.errors import UserError

cv2.setNumThreads(0)  # images are too small to share one among threads

Transform: TypeAlias = A.BasicTransform | A.BaseCompose

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
    gauss_next: float | None

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
        transforms: Albumentations transforms by name, in the order in which they are applied;
            compositions (`A.Compose`, `A.OneOf`, ...) too. Their random state is taken over.
        seed: the run's seed.
        only: the labels whose images a transform is for, by the transform's name; one that is not
            named here is for all. What a transform leaves out draws no number: images of these
            labels are as they would be without it, all others as if it were for all.

    Raises:
        UserError: a transform holds NaN or infinity, with which OpenCV may never return.
    """

    def __init__(
        self,
        transforms: Mapping[str, Transform],
        seed: int,
        only: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        for name, transform in transforms.items():
            for where, value in _non_finite(transform):
                raise UserError(f"aug.{name}.{where}={value}: a finite number is needed")
        self.transforms = dict(transforms)
        self.seed = seed
        self.only = {name: frozenset(labels) for name, labels in (only or {}).items()}
        self._steps = tuple(self.transforms.values())
        self._labels = tuple(self.only.get(name) for name in self.transforms)
        self._python = _SplitMix()
        self._numpy = np.random.Generator(np.random.PCG64(0))
        for transform in self._steps:
            transform.set_random_state(self._numpy, self._python)
        self._numpy_state: Any = self._numpy.bit_generator.state  # has_uint32 is 0: nothing is left
        self._seed_key = _mixed(seed & _MASK)
        self._epoch, self._epoch_key = 0, _mixed(self._seed_key)
        self._alternating = [
            leaf
            for step in self._steps
            for leaf in _leaves(step)
            if isinstance(leaf, AlternatingFlip)
        ]

    def __call__(
        self,
        image: np.ndarray,
        epoch: int,
        index: int,
        label: int | None = None,
        view: int | None = None,
    ) -> np.ndarray:
        """One augmented draw.

        Args:
            image: uint8 (H, W, 3).
            epoch: 0, 1, ...; another epoch is another draw.
            index: the sample's number in its set.
            label: its class; may be left out where every transform is for all classes.
            view: of several that differ in AugMix alone, as its loss compares them: 0 is without it,
                each other number is another draw of it. None is the draw of a sample with one view.

        Returns:
            uint8 (H, W, 3).

        Raises:
            ValueError: a transform is for some classes, and `label` is left out.
        """
        if label is None and self.only:
            raise ValueError(f"{', '.join(self.only)}: for some classes only: give the label")
        if epoch != self._epoch:
            self._epoch, self._epoch_key = epoch, _mixed((self._seed_key + epoch) & _MASK)
        key = _mixed((self._epoch_key + index) & _MASK)
        python = self._python
        python.position = key
        python.gauss_next = None  # random.gauss keeps half a pair, which belongs to the last sample
        numpy_is_seeded = False
        for flip in self._alternating:
            flip.turn = epoch + (_mixed(((self._seed_key ^ _MASK) + index) & _MASK) & 1)
        for transform, labels in zip(self._steps, self._labels, strict=True):
            if labels is not None and label not in labels:
                continue
            if view is not None and isinstance(transform, AugMix):
                if view > 0:  # from a stream of the view's own: what follows draws the same in all
                    position, python.position = (
                        python.position,
                        _mixed((key ^ _MASK) - view & _MASK),
                    )
                    if python.random() < transform.p:
                        image = transform(force_apply=True, image=image)["image"]
                    python.position = position
                continue
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
            place = f"aug.{name}: {type(transform).__name__}"
            try:
                result = transform(force_apply=True, image=image.copy())["image"]
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{place} fails on an image of {image.shape}: {reason}") from None
            result_is = f"{getattr(result, 'dtype', '')} {tuple(getattr(result, 'shape', ()))}"
            if result_is != f"{image.dtype} {image.shape}":
                raise UserError(
                    f"{place} makes {result_is} of {image.dtype} {image.shape}: every image must keep "
                    "its size and type (Normalize and ToTensorV2 end every pipeline by themselves)"
                )


def _leaves(transform: Transform) -> Iterator[A.BasicTransform]:
    """The transforms of a composition, however deep; a plain transform is its own."""
    if isinstance(transform, A.BaseCompose):
        for part in transform.transforms:
            yield from _leaves(part)
    else:
        yield transform


def _non_finite(value: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every NaN and infinity among the settings of a transform, with the place where it is."""
    if isinstance(value, A.BaseCompose | A.BasicTransform):
        value = {k: v for k, v in vars(value).items() if k not in ("py_random", "random_generator")}
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        yield where, float(value)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _non_finite(part, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _non_finite(part, f"{where}.{number}" if where else str(number))
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        for part in value[~np.isfinite(value)].ravel()[:1]:
            yield where, float(part)
