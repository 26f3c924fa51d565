"""What a data set is: names, statistics, and two splits of uint8 arrays."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels, and where it is known the object's mask.

    images: uint8 (N, H, W, 3), RGB. labels: int64 (N,). masks: bool (N, H, W) or None.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: np.ndarray) -> "ImageSet":
        """The images at `index`, int (M,), as an ImageSet of their own."""
        masks = None if self.masks is None else self.masks[index]
        return ImageSet(self.images[index], self.labels[index], masks)


class Source(Protocol):
    """A data set: its names, its statistics, and its two splits, each read when asked for."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""

    @property
    def mean(self) -> Channels:
        """Mean of each channel over training images, of values in 0..1."""

    @property
    def std(self) -> Channels:
        """Standard deviation of each channel over training images, of values in 0..1."""

    def prepare(self) -> None:
        """Make sure that everything is there, the test set too, before time is spent."""

    def train(self) -> ImageSet:
        """The training images."""

    def test(self) -> ImageSet:
        """The test images."""


def statistics(images: np.ndarray) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, of values in 0..1, of uint8 (N, H, W, 3)."""
    # From the 256 counts of each channel: exact, and no float copy of the images.
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(3):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = float(counts @ values / counts.sum())
        means.append(mean)
        # One grey level at least: an image set of one colour must not divide by zero.
        variance = float(counts @ (values - mean) ** 2 / counts.sum())
        deviations.append(max(variance**0.5, 1 / 255))
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])
