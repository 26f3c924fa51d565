"""Where images come from: CIFAR-10, generated shapes, or your own folder, all as uint8 arrays.

    source = CIFAR10("data")
    source.prepare()
    source.train().images        # uint8 (50000, 32, 32, 3)

Your own folder of images, PNG or JPEG of any size, has one folder per class:

    ROOT/train/cat/*.png   ROOT/train/dog/*.png   ...
    ROOT/test/cat/*.png    ROOT/test/dog/*.png    ...

or ROOT/cat/*.png, ROOT/dog/*.png; then a fifth of each class, always the same, is the test set.
"""

import hashlib
import pickle
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import torchvision
from filelock import FileLock
from PIL import Image, ImageOps
from torchvision.datasets.utils import (
    download_and_extract_archive,
)

from augcam.data import shapes
from augcam.errors import UserError

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


class CIFAR10:
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32, ten classes.

    Read from `root/cifar-10-batches-py`, every file compared with its published MD5 before it is
    unpickled; downloaded into `root` when missing.
    """

    classes = ("airplane", "automobile", "bird", "cat", "deer",
               "dog", "frog", "horse", "ship", "truck")  # fmt: skip
    # Over the 50,000 training images. The often copied std .2023 .1994 .2010 is something else.
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.folder = self.root / torchvision.datasets.CIFAR10.base_folder

    def prepare(self) -> None:
        """Download what is missing, one process at a time, and verify the test set and the names.

        The training files are verified as `train` reads them.

        Raises:
            UserError: a file is altered or cannot be read, or is missing and cannot be downloaded.
        """
        if not self._is_there():
            self._download()
        for name, md5 in torchvision.datasets.CIFAR10.test_list:
            self._verified(name, md5)

    def train(self) -> ImageSet:
        """The 50,000 training images. Raises UserError for a file that is missing or altered."""
        return self._read(torchvision.datasets.CIFAR10.train_list)

    def test(self) -> ImageSet:
        """The 10,000 test images. Raises UserError for a file that is missing or altered."""
        return self._read(torchvision.datasets.CIFAR10.test_list)

    def _is_there(self) -> bool:
        try:
            if self.root.exists() and not self.root.is_dir():
                raise UserError(f"data.root={self.root}: this is a file; give a folder")
            there = self.folder.iterdir() if self.folder.exists() else ()
            listed = {path.name for path in there}
        except OSError as error:
            raise UserError(f"data.root={self.root}: cannot be read ({error.strerror})") from None
        known = torchvision.datasets.CIFAR10
        return listed.issuperset(name for name, _ in known.train_list + known.test_list)

    def _download(self) -> None:
        known = torchvision.datasets.CIFAR10
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / ".cifar-10.lock"):
                if self._is_there():  # another process was first
                    return
                # Unpacked beside its place and then moved: a stop half-way leaves no half files.
                with TemporaryDirectory(prefix=".cifar-10-", dir=self.root) as beside:
                    download_and_extract_archive(
                        known.url, str(self.root), beside, known.filename, known.tgz_md5
                    )
                    self.folder.mkdir(exist_ok=True)
                    for path in (Path(beside) / known.base_folder).iterdir():
                        path.replace(self.folder / path.name)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"data.root={self.root}: CIFAR-10 is missing and cannot be downloaded ({reason})\n"
                f"Put the archive at {self.root / known.filename}, or set data.root (AUGCAM_DATA) "
                "to where it is; data=shapes needs no download"
            ) from None

    def _read(self, files: Sequence[Sequence[str]]) -> ImageSet:
        # A file holds its images as rows of 3 x 32 x 32 bytes, plane by plane.
        count = 10_000 * len(files)
        images = np.empty((count, 32, 32, 3), np.uint8)
        labels = np.empty(count, np.int64)
        for number, (name, md5) in enumerate(files):
            part = slice(number * 10_000, (number + 1) * 10_000)
            batch = pickle.loads(self._verified(name, md5), encoding="bytes")
            planes = batch[b"data"].reshape(-1, 3, 32, 32)
            for channel in range(3):  # three times as fast as one transposed copy
                images[part, :, :, channel] = planes[:, channel]
            labels[part] = batch[b"labels"]
        return ImageSet(images, labels)

    def _verified(self, name: str, md5: str) -> bytes:
        """A file's bytes, hashed as they were read: what is unpickled is what was verified."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise UserError(
                f"{path}: truncated or altered, its MD5 is not CIFAR-10's ({md5}); "
                "delete the file, and the next run downloads it again"
            )
        return content


class Shapes:
    """Ten generated shapes with masks, 32x32; see `augcam.data.shapes`. Nothing is written to disk.

    Args:
        seed: of the drawing; the run's seed leaves the images alone.
        train_size, test_size: numbers of images.
        shortcut: share of images with a tag that gives the class away in training, not in test.
    """

    classes = shapes.CLASSES

    def __init__(
        self, seed: int = 0, train_size: int = 6000, test_size: int = 2000, shortcut: float = 0.0
    ) -> None:
        if not 0 <= shortcut <= 1:
            raise UserError(f"data.shortcut={shortcut}: a share is meant, 0 to 1")
        self.seed = seed
        self.train_size = train_size
        self.test_size = test_size
        self.shortcut = shortcut

    def prepare(self) -> None:
        """Nothing to do: a split is drawn in memory, in a few seconds, when it is asked for."""

    def train(self) -> ImageSet:
        return ImageSet(*shapes.draw("train", self.seed, self.train_size, self.shortcut))

    def test(self) -> ImageSet:
        return ImageSet(*shapes.draw("test", self.seed, self.test_size, self.shortcut))

    @property
    def mean(self) -> Channels:
        return self._statistics[0]

    @property
    def std(self) -> Channels:
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[Channels, Channels]:
        # The first images of the training set: an image does not depend on how many are drawn.
        return statistics(
            shapes.draw("train", self.seed, min(self.train_size, 500), self.shortcut)[0]
        )


class ImageFolder:
    """Your own images: one folder per class, as at the top of this file.

    Each image is turned upright, converted to RGB, resized so that its short side is `image_size`,
    and cropped to the centre square. Mean and std come from up to 500 training images.

    Args:
        root: the folder.
        image_size: side of the square, pixels.
    """

    def __init__(self, root: str | Path, image_size: int) -> None:
        self.root = Path(root).expanduser()
        self.image_size = image_size

    def prepare(self) -> None:
        """List the folders and open every test image's header: what cannot be used is told now.

        Raises:
            UserError: see `classes`, or a test file is not an image.
        """
        for path in self._files["test"][0]:
            try:
                with Image.open(path):
                    pass
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise _not_an_image(path, error) from None

    @property
    def classes(self) -> tuple[str, ...]:
        """The folders' names, sorted.

        Raises:
            UserError: the root cannot be read, has fewer than two classes or an empty one, or
                train and test have different classes.
        """
        return self._layout[0]

    def train(self) -> ImageSet:
        """The training images. Raises UserError, naming the file that cannot be read."""
        return self._read(*self._files["train"])

    def test(self) -> ImageSet:
        """The test images. Raises UserError, naming the file that cannot be read."""
        return self._read(*self._files["test"])

    @property
    def mean(self) -> Channels:
        return self._statistics[0]

    @property
    def std(self) -> Channels:
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[Channels, Channels]:
        paths, labels = self._files["train"]
        chosen = np.random.default_rng(0).permutation(len(paths))[:500]
        return statistics(self._read([paths[i] for i in chosen], labels[chosen]).images)

    @property
    def _files(self) -> dict[str, tuple[list[Path], np.ndarray]]:
        return self._layout[1]

    @cached_property
    def _layout(self) -> tuple[tuple[str, ...], dict[str, tuple[list[Path], np.ndarray]]]:
        try:
            inside = _folders(self.root)
            if "train" not in inside:
                classes, paths, labels = _classes_in(self.root)
                train, test = stratified_holdout(labels, len(paths) // 5, seed=0)
                return classes, {
                    "train": ([paths[i] for i in train], labels[train]),
                    "test": ([paths[i] for i in test], labels[test]),
                }
            if "test" not in inside:
                raise UserError(f"data.root={self.root}: there is a train/ but no test/ beside it")
            classes, paths, labels = _classes_in(self.root / "train")
            test_classes, test_paths, test_labels = _classes_in(self.root / "test")
        except OSError as error:
            raise UserError(f"data.root={self.root}: cannot be read ({error.strerror})") from None
        if classes != test_classes:
            odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
            raise UserError(
                f"data.root={self.root}: train/ and test/ must have the same classes; "
                f"only one of them has {odd}"
            )
        return classes, {"train": (paths, labels), "test": (test_paths, test_labels)}

    def _read(self, paths: Sequence[Path], labels: np.ndarray) -> ImageSet:
        side = self.image_size
        images = np.empty((len(paths), side, side, 3), np.uint8)
        for i, path in enumerate(paths):
            images[i] = read_image(path, side)
        return ImageSet(images, labels)


def read_image(path: Path, side: int) -> np.ndarray:
    """One file as uint8 (side, side, 3): short side to `side`, centre crop.

    Raises:
        UserError: the file is not an image that can be read whole.
    """
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            image.draft("RGB", (side, side))  # lets the JPEG decoder leave out what is not needed
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits: RGB conversion would clip, not scale
                image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
            fitted = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
            return np.asarray(fitted)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _not_an_image(path, error) from None


def _not_an_image(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{path}: not an image that can be read ({reason}); repair or remove it")


_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def _folders(root: Path) -> list[str]:
    return sorted(
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _classes_in(root: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    classes = tuple(_folders(root))
    if len(classes) < 2:
        found = f"found {classes[0]}/ alone" if classes else "found none"
        raise UserError(
            f"data.root={root}: two folders or more, one per class, are needed; {found}"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(p for p in (root / name).iterdir() if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise UserError(
                f"data.root={root}: the class {name}/ has no image ({', '.join(sorted(_SUFFIXES))})"
            )
        paths += files
        labels += [label] * len(files)
    return classes, paths, np.array(labels, np.int64)


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


def stratified_holdout(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose `size` samples to hold out, from each class in proportion (largest remainders).

    Args:
        labels: int (N,).
        size: how many to hold out; 0 holds out none.
        seed: of the choice.

    Returns:
        (train_index, val_index): int64, each sorted; together every sample once. The share of a
        class differs from exact proportion by less than one sample.

    Raises:
        UserError: the size is negative, or leaves a class without a training image.
    """
    counts = np.bincount(labels)
    taken = _shares(counts, size) if 0 <= size < len(labels) else None
    if taken is None or np.any((taken >= counts) & (counts > 0)):
        largest = next(
            s for s in range(len(labels) - 1, -1, -1)
            if not np.any((_shares(counts, s) >= counts) & (counts > 0))
        )  # fmt: skip
        raise UserError(
            f"data.holdout={size}: of {len(labels):,} training images 0 to {largest:,} can be held "
            "out, so that every class keeps one"
        )
    random = np.random.default_rng([seed, 0x5A])  # the holdout's own stream
    held_out = np.zeros(len(labels), bool)
    for label, number in enumerate(taken):
        members = np.flatnonzero(labels == label)
        held_out[random.permutation(members)[:number]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _shares(counts: np.ndarray, size: int) -> np.ndarray:
    """`size` shared out in proportion to `counts`; what is left goes to the largest remainders."""
    products = counts.astype(np.int64) * size  # integers: no rounding decides a tie
    shares, remainders = np.divmod(products, counts.sum())
    missing = size - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return shares
