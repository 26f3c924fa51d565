"""Decoded images: in memory where they fit, else in one file from which batches are read.

Decoding a photograph of 500x375 pixels costs milliseconds, reading its decoded square of 224 pixels
a tenth of one. So every image is decoded once, and what is larger than the memory set aside for it
goes into a file, written whole or not at all, which later runs on the same images use again.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from augcam.atomic import atomic_file, remove_leftovers
from augcam.errors import UserError

log = logging.getLogger(__name__)


class StoredImages:
    """Images in a file, indexed as an array uint8 (N, side, side, 3) is: what is asked for is read.

    Nothing is mapped or kept, so the memory in use is that of the images in hand, however many
    there are. It travels to loader workers as a path.

    Args:
        path: the file: the images' bytes, one after the other.
        side: pixels.
        index: int (N,), which images of the file these are; None for all of them.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, path: Path, side: int, index: np.ndarray | None = None) -> None:
        self.path, self.side = path, side
        self._bytes = side * side * 3
        self._index = np.arange(path.stat().st_size // self._bytes) if index is None else index

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self._index), self.side, self.side, 3)

    def __len__(self) -> int:
        return len(self._index)

    def rows(self, index: np.ndarray) -> "StoredImages":
        """The images at `index`, int (M,), without reading them."""
        return StoredImages(self.path, self.side, self._index[index])

    def __getitem__(self, which: int | slice | np.ndarray | list[int]) -> np.ndarray:
        """uint8 (side, side, 3) for an int, else (M, side, side, 3): a fresh array.

        Raises:
            UserError: the file is gone or cut short.
        """
        numbers = np.asarray(self._index[which])
        images = np.empty((numbers.size, self.side, self.side, 3), np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                for image, number in zip(images, numbers.reshape(-1).tolist(), strict=True):
                    file.seek(number * self._bytes)
                    if file.readinto(image.data) != self._bytes:
                        raise OSError(0, "cut short")
        except OSError as error:
            raise UserError(
                f"{self.path}: decoded images cannot be read ({error.strerror}); delete the file, "
                "and the next run makes it again"
            ) from None
        return images.reshape(*numbers.shape, self.side, self.side, 3)


def decode(
    read: Callable[[int], np.ndarray], count: int, side: int, *, memory: int, cache: Path, key: str
) -> np.ndarray | StoredImages:
    """Read `count` images once, into memory or, where they take more than `memory` bytes, a file.

    Args:
        read: the number of an image to uint8 (side, side, 3). Called from several threads.
        count: how many there are.
        side: pixels.
        memory: bytes that the images may take in memory.
        cache: the folder of the file.
        key: names the images in `cache`; images of another content must have another key.

    Raises:
        UserError: images cannot be read, ten of which it names, or the file not written.
    """
    size = count * side * side * 3
    if size <= memory:
        images = np.empty((count, side, side, 3), np.uint8)
        for number, image in enumerate(each_image(read, count)):
            images[number] = image
        return images
    path = cache / f"{key}.images"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{key}.lock"):
            if not path.is_file() or path.stat().st_size != size:
                free = shutil.disk_usage(cache).free
                if free < size:
                    raise OSError(0, f"{free / 1e9:.1f} GB are free")
                log.info(
                    "decoding %s images once, into %s (%.1f GB)", f"{count:,}", path, size / 1e9
                )
                remove_leftovers(cache, f"{key}.images.*")
                with atomic_file(path) as file:
                    for image in each_image(read, count):
                        file.write(image.tobytes())
    except OSError as error:
        raise UserError(
            f"data.cache={cache}: cannot hold the decoded images, {size / 1e9:.1f} GB "
            f"({error.strerror or error}); give another folder, or more data.memory_gb"
        ) from None
    return StoredImages(path, side)


def each_image(read: Callable[[int], np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The images in order, decoded by threads a few at a time; at the end the unreadable are named."""

    def attempt(number: int) -> Any:
        try:
            return read(number)
        except UserError as error:
            return error

    problems: list[str] = []
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, 8 * threads):
            for image in pool.map(attempt, range(start, min(count, start + 8 * threads))):
                if isinstance(image, UserError):
                    problems.append(str(image))
                else:
                    yield image
    refuse_unreadable(problems)


def refuse_unreadable(problems: Sequence[str], most: int = 10) -> None:
    """Raise a UserError that says what is wrong with `most` files, and counts the others."""
    more = [f"and {len(problems) - most:,} more cannot be read"] if len(problems) > most else []
    if problems:
        raise UserError("\n".join([*problems[:most], *more]))
