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

from augcam.data.augment.batch import BatchForm, batch_form
from augcam.data.augment.ops import AlternatingFlip
from augcam.data.augment.policies import AugMix
from augcam.data.augment.streams import MASK, BatchStreams, SplitMix, mixed, pcg_state
from augcam.errors import UserError

cv2.setNumThreads(0)  # images are too small to share one among threads

Transform: TypeAlias = A.BasicTransform | A.BaseCompose


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
        self.only = {name: frozenset(labels) for name, labels in (only or {}).items()}
        self._steps = tuple(self.transforms.values())
        self._labels = tuple(self.only.get(name) for name in self.transforms)
        # The first of them that have a batch form; from the next on, images go one by one.
        self._for_batches: list[BatchForm] = []
        for transform in self._steps:
            if (form := batch_form(transform)) is None:
                break
            self._for_batches.append(form)
        self._python = SplitMix()
        self._numpy = np.random.Generator(np.random.PCG64(0))
        for transform in self._steps:
            transform.set_random_state(self._numpy, self._python)
        self._numpy_state: Any = self._numpy.bit_generator.state  # has_uint32 is 0: nothing is left
        self._seed_key = mixed(seed & MASK)
        self._epoch, self._epoch_key = 0, mixed(self._seed_key)
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
        key = self._key(epoch, index)
        self._python.position = key
        return self._from(0, image, key, 0, self._turn(epoch, index), label, view)

    def batch(
        self,
        images: np.ndarray,
        epoch: int,
        index: np.ndarray,
        labels: np.ndarray,
        views: np.ndarray | None = None,
    ) -> None:
        """What `__call__` makes of each image of a batch, bit for bit, written over the images.

        Args:
            images: uint8 (B, H, W, 3).
            epoch: 0, 1, ...
            index: int64 (B,), each sample's number in its set.
            labels: int64 (B,), its class.
            views: int64 (B,), which view each image is to be; None where samples have one.
        """
        keys = self._key(epoch, index.astype(np.uint64))
        turns = self._turn(epoch, index.astype(np.uint64))
        streams = BatchStreams(keys, self._numpy_state["state"]["inc"])
        for flip in self._alternating:
            flip.turn = turns
        for apply, transform, wanted in zip(
            self._for_batches, self._steps, self._labels, strict=False
        ):
            rows = np.arange(len(images))
            if wanted is not None:
                rows = rows[np.isin(labels, list(wanted))]
            if transform.p < 1:
                rows = rows[streams.random(rows) < transform.p]
            if len(rows):
                apply(transform, images, rows, streams)
        if (first := len(self._for_batches)) == len(self._steps):
            return
        seen = [None] * len(images) if views is None else views.tolist()
        parts = (keys, streams.positions, streams.words, turns, labels)
        for image, view, (key, position, words, turn, label) in zip(
            images, seen, zip(*(part.tolist() for part in parts), strict=True), strict=True
        ):
            self._python.position = position
            image[:] = self._from(first, image, key, words, turn, label, view)

    def _key(self, epoch: int, index: Any) -> Any:
        """Where the streams of samples begin, 64 bits each; of an int, or of uint64 (B,)."""
        if epoch != self._epoch:
            self._epoch, self._epoch_key = epoch, mixed((self._seed_key + epoch) & MASK)
        return mixed((self._epoch_key + index) & MASK)

    def _turn(self, epoch: int, index: Any) -> Any:
        """Whether an alternating flip mirrors, if it is odd; of an int, or of uint64 (B,)."""
        if not self._alternating:
            return index
        return epoch + (mixed(((self._seed_key ^ MASK) + index) & MASK) & 1)

    def _from(
        self,
        first: int,
        image: np.ndarray,
        key: int,
        words: int,
        turn: int,
        label: int | None,
        view: int | None,
    ) -> np.ndarray:
        """The transforms from number `first` on, where those before have drawn numpy's `words`."""
        python = self._python
        python.gauss_next = None  # random.gauss keeps half a pair, which belongs to the last sample
        numpy_is_seeded = False
        for flip in self._alternating:
            flip.turn = turn
        for transform, labels in zip(self._steps[first:], self._labels[first:], strict=True):
            if labels is not None and label not in labels:
                continue
            if view is not None and isinstance(transform, AugMix):
                if view > 0:  # from a stream of the view's own: what follows draws the same in all
                    position, python.position = python.position, mixed((key ^ MASK) - view & MASK)
                    if python.random() < transform.p:
                        image = transform(force_apply=True, image=image)["image"]
                    python.position = position
                continue
            # The coin that BasicTransform.should_apply would toss, from the same stream: what is
            # not applied costs one draw and no call.
            if transform.p < 1 and python.random() >= transform.p:
                continue
            if not numpy_is_seeded:
                high, low = pcg_state(key)
                self._numpy_state["state"]["state"] = high << 64 | low
                self._numpy.bit_generator.state = self._numpy_state
                if words:
                    self._numpy.integers(0, 2**32, words, np.uint32)
                numpy_is_seeded = True
            image = transform(force_apply=True, image=image)["image"]
        return image

    def check(self, image: np.ndarray) -> None:
        """Apply each transform to `image`, uint8 (H, W, 3), so that a misfit shows at once.

        Raises:
            UserError: a transform fails on such an image, changes its size or type, or makes two images
                of it at one place of the sample's stream.
        """
        before = random.getstate(), np.random.get_state()
        try:
            self._check(image)
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])

    def _check(self, image: np.ndarray) -> None:
        for name, transform in self.transforms.items():
            place = f"aug.{name}: {type(transform).__name__}"
            try:
                # Several pairs: a coin that is not of the stream falls alike in every other one.
                pairs = [self._twice(transform, image) for _ in range(8)]
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{place} fails on an image of {image.shape}: {reason}") from None
            for result, again in pairs:
                result_is = f"{getattr(result, 'dtype', '')} {tuple(getattr(result, 'shape', ()))}"
                if result_is != f"{image.dtype} {image.shape}":
                    raise UserError(
                        f"{place} makes {result_is} of {image.dtype} {image.shape}: every image must "
                        "keep its size and type (Normalize and ToTensorV2 end every pipeline by "
                        "themselves)"
                    )
                if not np.array_equal(result, again):
                    raise UserError(
                        f"{place} makes another image of the same sample each time: it draws from "
                        "np.random, random or torch, or keeps count; draw from "
                        "self.random_generator (numpy's) and self.py_random (Python's)"
                    )

    def _twice(self, transform: Transform, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two draws of a transform from one place of the streams; the next two are from another."""
        position, state = self._python.position, self._numpy.bit_generator.state

        def draw() -> np.ndarray:
            self._python.position, self._python.gauss_next = position, None
            self._numpy.bit_generator.state = state
            result: np.ndarray = transform(force_apply=True, image=image.copy())["image"]
            return result

        return draw(), draw()


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
