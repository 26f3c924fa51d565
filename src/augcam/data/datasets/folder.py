"""Where images come from: CIFAR-10, generated shapes, or your own folder, all as uint8 arrays.

    source = CIFAR10("data")
    source.prepare()
    source.train().images        # uint8 (50000, 32, 32, 3)

Your own folder of images, PNG or JPEG of any size, has one folder per class:

    ROOT/train/cat/*.png   ROOT/train/dog/*.png   ...
    ROOT/test/cat/*.png    ROOT/test/dog/*.png    ...

or ROOT/cat/*.png, ROOT/dog/*.png; then a fifth of each class, always the same, is the test set.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from augcam.data.datasets.base import Channels, ImageSet, statistics
from augcam.data.splits import stratified_holdout
from augcam.errors import UserError


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
