"""CIFAR-10 and CIFAR-100, from their official Python batches."""

import hashlib
import pickle
import tarfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torchvision
from filelock import FileLock
from torchvision.datasets.utils import (
    download_and_extract_archive,
)

from augcam.data.datasets.base import Channels, ImageSet, digest, statistics
from augcam.errors import UserError


class _CIFAR:
    """A data set in CIFAR's format, as torchvision knows it: its URL, its files and their MD5s.

    Read from `root/BASE_FOLDER`, every file compared with its published MD5 before it is
    unpickled; downloaded into `root` when missing.
    """

    known: ClassVar[type[torchvision.datasets.CIFAR10]]
    title: ClassVar[str]
    label_key: ClassVar[bytes]

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.folder = self.root / self.known.base_folder

    def prepare(self) -> None:
        """Download what is missing, one process at a time, and verify the test set and the names.

        The training files are verified as `train` reads them.

        Raises:
            UserError: a file is altered or cannot be read, or is missing and cannot be downloaded.
        """
        if not self._is_there():
            self._download()
        for name, md5 in self.known.test_list:
            self._verified(name, md5)

    def train(self) -> ImageSet:
        """The 50,000 training images. Raises UserError for a file that is missing or altered."""
        return self._read(self.known.train_list)

    def test(self) -> ImageSet:
        """The 10,000 test images. Raises UserError for a file that is missing or altered."""
        return self._read(self.known.test_list)

    def fingerprint(self) -> str:
        """A digest of the published MD5s: no other images are ever read."""
        return digest(f"{name} {md5}" for name, md5 in self.known.train_list + self.known.test_list)

    def _is_there(self) -> bool:
        try:
            if self.root.exists() and not self.root.is_dir():
                raise UserError(f"data.root={self.root}: this is a file; give a folder")
            there = self.folder.iterdir() if self.folder.exists() else ()
            listed = {path.name for path in there}
        except OSError as error:
            raise UserError(f"data.root={self.root}: cannot be read ({error.strerror})") from None
        known = self.known
        return listed.issuperset(name for name, _ in known.train_list + known.test_list)

    def _download(self) -> None:
        known = self.known
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f".{self.known.base_folder}.lock"):
                if self._is_there():  # another process was first
                    return
                # Unpacked beside its place and then moved: a stop half-way leaves no half files.
                with TemporaryDirectory(
                    prefix=f".{self.known.base_folder}-", dir=self.root
                ) as beside:
                    download_and_extract_archive(
                        known.url, str(self.root), beside, known.filename, known.tgz_md5
                    )
                    self.folder.mkdir(exist_ok=True)
                    for path in (Path(beside) / known.base_folder).iterdir():
                        path.replace(self.folder / path.name)
        except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"data.root={self.root}: {self.title} is missing and cannot be downloaded ({reason})\n"
                f"Put the archive at {self.root / known.filename}, or set data.root (AUGCAM_DATA) "
                "to where it is; data=shapes needs no download"
            ) from None

    def _read(self, files: Sequence[Sequence[str]]) -> ImageSet:
        # A file holds its images as rows of 3 x 32 x 32 bytes, plane by plane.
        batches = [pickle.loads(self._verified(*file), encoding="bytes") for file in files]
        images = np.empty((sum(len(batch[b"data"]) for batch in batches), 32, 32, 3), np.uint8)
        start = 0
        for batch in batches:
            planes = batch[b"data"].reshape(-1, 3, 32, 32)
            for channel in range(3):  # three times as fast as one transposed copy
                images[start : start + len(planes), :, :, channel] = planes[:, channel]
            start += len(planes)
        labels = np.concatenate([batch[self.label_key] for batch in batches])
        return ImageSet(images, labels.astype(np.int64))

    def _verified(self, name: str, md5: str) -> bytes:
        """A file's bytes, hashed as they were read: what is unpickled is what was verified."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise UserError(
                f"{path}: truncated or altered, its MD5 is not {self.title}'s ({md5}); "
                "delete the file, and the next run downloads it again"
            )
        return content


class CIFAR10(_CIFAR):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32, ten classes."""

    known = torchvision.datasets.CIFAR10
    title = "CIFAR-10"
    label_key = b"labels"

    classes = ("airplane", "automobile", "bird", "cat", "deer",
               "dog", "frog", "horse", "ship", "truck")  # fmt: skip
    # Over the 50,000 training images. The often copied std .2023 .1994 .2010 is something else.
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)


class CIFAR100(_CIFAR):
    """CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32, 100 fine classes.

    The classes' names come from its `meta` file; mean and std are those of its training images.
    """

    known = torchvision.datasets.CIFAR100
    title = "CIFAR-100"
    label_key = b"fine_labels"

    def prepare(self) -> None:
        super().prepare()
        _ = self.classes

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the fine classes. Raises UserError for a file that is missing or altered."""
        meta = self.known.meta
        return tuple(pickle.loads(self._verified(meta["filename"], meta["md5"]))[meta["key"]])

    @property
    def mean(self) -> Channels:
        return self._statistics[0]

    @property
    def std(self) -> Channels:
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[Channels, Channels]:
        self.prepare()
        # As one image: one count of 51 million pixels instead of 50,000 counts.
        return statistics([self.train().images])  # type: ignore[list-item]
