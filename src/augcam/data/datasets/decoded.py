"""What data sets share whose images are decoded one by one: one's own files, and torchvision's sets."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from augcam.data.datasets.base import Channels, ImageSet, digest, statistics
from augcam.data.datasets.stored import decode, each_image

Split = Literal["train", "test"]

# Counted up wherever files are decoded to other pixels than before: 2 puts transparent ones on white.
_DECODING = 2


class DecodedDataset(ABC):
    """Two splits, each decoded when it is asked for; statistics and fingerprint are computed once.

    Mean and std come from up to 500 training images.

    Attributes:
        memory_gb: what the decoded images of a split may take in memory; more go into a file.
        cache: the folder of that file.
    """

    memory_gb: float
    cache: Path

    def train(self) -> ImageSet:
        """The training images. Raises UserError, naming those that cannot be read."""
        return self._decoded("train")

    def test(self) -> ImageSet:
        """The test images. Raises UserError, naming those that cannot be read."""
        return self._decoded("test")

    @property
    def mean(self) -> Channels:
        return self._statistics[0]

    @property
    def std(self) -> Channels:
        return self._statistics[1]

    def fingerprint(self) -> str:
        """A digest of the images of both splits. Raises UserError where one cannot be read."""
        return self._fingerprint

    @property
    @abstractmethod
    def _side(self) -> int:
        """Pixels of an image's side."""

    @abstractmethod
    def _labels(self, split: Split) -> np.ndarray:
        """int64 (N,)."""

    @abstractmethod
    def _image(self, split: Split, number: int) -> np.ndarray:
        """One image: uint8 (side, side, 3). Raises UserError where it cannot be read."""

    @abstractmethod
    def _contents(self) -> Iterable[Any]:
        """What the fingerprint is a digest of."""

    @abstractmethod
    def _cache_key(self, split: Split) -> str:
        """Names the decoded images of a split: of other images, it is another."""

    @cached_property
    def _statistics(self) -> tuple[Channels, Channels]:
        order = np.random.default_rng(0).permutation(len(self._labels("train")))[:500]
        return statistics(each_image(lambda i: self._image("train", int(order[i])), len(order)))

    @cached_property
    def _fingerprint(self) -> str:
        return digest(self._contents())

    def _decoded(self, split: Split) -> ImageSet:
        labels = self._labels(split)
        images = decode(
            partial(self._image, split), len(labels), self._side,
            memory=int(self.memory_gb * 1e9), cache=self.cache,
            key=f"{self._cache_key(split)}-{_DECODING}",
        )  # fmt: skip
        return ImageSet(images, labels)
