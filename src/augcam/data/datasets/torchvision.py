"""Any classification set of torchvision, by its name: SVHN, FashionMNIST, STL10, Food101 ..."""

import inspect
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision import datasets as torchvision_datasets

from augcam.data.datasets.decoded import DecodedDataset, Split
from augcam.data.datasets.folder import to_square
from augcam.errors import UserError, nearest

# How the classes' parameters name the two splits; torchvision has no common way.
_SPLITS: Mapping[Split, Mapping[str, tuple[Any, ...]]] = {
    "train": {"train": (True,), "split": ("train", "trainval")},
    "test": {"train": (False,), "split": ("test", "val", "valid")},
}


class TorchvisionDataset(DecodedDataset):
    """A classification set of torchvision: a PIL image and an int for each index, two splits.

    Grey images become RGB. Images that are not all square and of one size need `image_size`; they
    are then resized and cropped as those of `ImageFolder`. torchvision verifies the files as it does:
    most sets by their MD5.

    Args:
        dataset: the name of a class in `torchvision.datasets`.
        root: where its files are.
        image_size: side of the square, pixels; None keeps the images as they are.
        download: fetch what is missing.
        memory_gb, cache: as of `DecodedDataset`.

    Raises:
        UserError: torchvision has no such set, or it has not two splits.
    """

    def __init__(
        self,
        dataset: str,
        root: str | Path,
        image_size: int | None = None,
        download: bool = False,
        memory_gb: float = 1.0,
        cache: str | Path = "~/.cache/augcam",
    ) -> None:
        self.dataset = dataset
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.download = download
        self.memory_gb = memory_gb
        self.cache = Path(cache).expanduser()
        known = [name for name in torchvision_datasets.__all__ if _split_parameter(name)]
        if dataset not in known:
            why = "has no training and test split" if hasattr(torchvision_datasets, dataset) else ""
            raise UserError(
                f"data.dataset={dataset}: {why or 'torchvision has no such set'}; "
                f"{nearest(dataset, known)}"
            )

    def prepare(self) -> None:
        """Open both splits. Raises UserError where one is missing, or is no classification set."""
        for split in ("train", "test"):
            image, label = self._splits[split][0]
            if not isinstance(image, Image.Image) or not isinstance(label, int | np.integer):
                raise UserError(
                    f"data.dataset={self.dataset}: an image and a class number are needed, and its "
                    f"items are {type(image).__name__} and {type(label).__name__}"
                )
        _ = self._side

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The set's own names, or the numbers where it has none."""
        train = self._splits["train"]
        names = getattr(train, "classes", None) or getattr(train, "categories", None)
        if names is None:
            names = range(int(max(self._labels("train").max(), self._labels("test").max())) + 1)
        return tuple(str(name) for name in names)

    def _contents(self) -> Iterator[str | bytes]:
        """The set's name, every label, and 100 images of each split."""
        yield self.dataset
        for split in _SPLITS:
            items = self._splits[split]
            yield from (split, self._labels(split).tobytes())
            for number in np.linspace(0, len(items) - 1, min(100, len(items))).astype(int):
                yield np.asarray(items[int(number)][0]).tobytes()

    def _cache_key(self, split: Split) -> str:
        return f"{self.dataset}-{split}-{self._side}-{self.fingerprint()}"

    @cached_property
    def _splits(self) -> dict[Split, Any]:
        kind, parameter = (
            getattr(torchvision_datasets, self.dataset),
            _split_parameter(self.dataset),
        )
        extra: dict[str, Any] = {"download": self.download} if _has(kind, "download") else {}
        if self.dataset == "EMNIST":
            extra["split"] = "balanced"
        splits = {}
        for split, values in _SPLITS.items():
            problem: Exception | None = None
            for value in values[parameter]:
                try:
                    splits[split] = kind(str(self.root), **{parameter: value}, **extra)
                    break
                except ValueError as error:  # this set calls its split otherwise
                    problem = error
                except Exception as error:  # missing, damaged, or a library of its own is needed
                    problem = error
                    break
            if split not in splits:
                reason = " ".join(str(problem).split())[:160]
                raise UserError(
                    f"data.dataset={self.dataset}: cannot be read from data.root={self.root} "
                    f"({reason})\ndata.download=true fetches it"
                )
        return splits

    def _labels(self, split: Split) -> np.ndarray:
        items = self._splits[split]
        for name in ("targets", "labels", "_labels"):
            if (labels := getattr(items, name, None)) is not None:
                return np.asarray(labels, np.int64)
        return np.array([label for _, label in items], np.int64)

    @cached_property
    def _side(self) -> int:
        if self.image_size is not None:
            return self.image_size
        sizes = {self._splits[split][0][0].size for split in ("train", "test")}
        if len(sizes) > 1 or len(set(next(iter(sizes)))) > 1:
            raise UserError(
                f"data.dataset={self.dataset}: its images differ in size or are not square "
                f"({', '.join(f'{w}x{h}' for w, h in sorted(sizes))}): give data.image_size"
            )
        return int(next(iter(sizes))[0])

    def _image(self, split: Split, number: int) -> np.ndarray:
        image: Image.Image = self._splits[split][number][0]
        if self.image_size is not None:
            return to_square(image, self.image_size)
        if image.size != (self._side, self._side):
            raise UserError(
                f"data.dataset={self.dataset}: image {number} has {image.width}x{image.height} "
                f"pixels, the first {self._side}x{self._side}: give data.image_size"
            )
        return np.asarray(image.convert("RGB"))


def _split_parameter(name: str) -> str:
    """`train` or `split`, by which a class of torchvision tells its splits apart; else empty."""
    kind = getattr(torchvision_datasets, name)
    return next((word for word in ("train", "split") if _has(kind, word)), "")


def _has(kind: Any, parameter: str) -> bool:
    return parameter in inspect.signature(kind.__init__).parameters
