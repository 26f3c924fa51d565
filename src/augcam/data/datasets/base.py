"""What a data set is: names, statistics, two splits of uint8 images, and a fingerprint of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from augcam.data.datasets.stored import StoredImages
from augcam.errors import UserError

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels, and where it is known the object's mask.

    images: uint8 (N, H, W, 3), RGB: an array, or `StoredImages`, which reads from disk what is
    indexed. labels: int64 (N,). masks: bool (N, H, W) or None.
    """

    images: np.ndarray | StoredImages
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: np.ndarray) -> "ImageSet":
        """The images at `index`, int (M,), as an ImageSet of their own."""
        stored = isinstance(self.images, StoredImages)
        images = self.images.rows(index) if stored else self.images[index]  # type: ignore[union-attr]
        return ImageSet(
            images, self.labels[index], None if self.masks is None else self.masks[index]
        )


class ImageDataset(Protocol):
    """A data set: its names, its statistics, and its two splits, each read when asked for.

    To add one, write a class with these members and a `conf/data/NAME.yaml` whose `_target_` is it.
    """

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

    def fingerprint(self) -> str:
        """A digest of the images of both splits: another set of images has another one."""


def check_fingerprint(recorded: object, dataset: ImageDataset, of: str) -> None:
    """Refuse images that have changed since `recorded`; None, of an earlier version, passes.

    Raises:
        UserError: the data set holds other images now.
    """
    if recorded is not None and recorded != dataset.fingerprint():
        root = getattr(dataset, "root", None)
        raise UserError(
            f"{'data' if root is None else f'data.root={root}'}: the images have changed since {of} "
            "was made: some were added, removed, renamed or edited\n"
            "Its numbers and its training set belong to the images as they were: bring them back, "
            "or train a new run"
        )


def digest(parts: Iterable[Any]) -> str:
    """A short hexadecimal digest of a sequence of bytes, strings and numbers: 32 digits."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        # The length first, so that no two sequences run together to the same bytes.
        state.update(len(content).to_bytes(8, "little"))
        state.update(content)
    return state.hexdigest()


def statistics(images: Iterable[np.ndarray]) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, of values in 0..1.

    Args:
        images: uint8 (H, W, 3) each; they may differ in size. An array (N, H, W, 3) is fine.
    """
    # From the 256 counts of each channel: exact, and no float copy of the images.
    counts = np.zeros((3, 256), np.int64)
    for image in images:
        for channel in range(3):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    means, deviations = [], []
    for row in counts:
        mean = float(row @ values / row.sum())
        means.append(mean)
        # One grey level at least: an image set of one colour must not divide by zero.
        variance = float(row @ (values - mean) ** 2 / row.sum())
        deviations.append(max(variance**0.5, 1 / 255))
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])
