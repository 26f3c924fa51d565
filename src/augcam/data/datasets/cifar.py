"""CIFAR-10, from its official Python batches."""

import hashlib
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torchvision
from filelock import FileLock
from torchvision.datasets.utils import (
    download_and_extract_archive,
)

from augcam.data.datasets.base import ImageSet
from augcam.errors import UserError


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
