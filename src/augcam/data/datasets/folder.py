"""Your own images, one folder per class.

    ROOT/train/cat/*.png   ROOT/train/dog/*.png   ...
    ROOT/test/cat/*.png    ROOT/test/dog/*.png    ...

or ROOT/cat/*.png, ROOT/dog/*.png; then about a fifth of each class, chosen by a hash of the file's
name, is the test set, so that an image added later moves no other. Folders inside a class folder
belong to the class.
"""

import logging
import os
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from augcam.data.datasets.base import ImageSet, digest
from augcam.data.datasets.decoded import DecodedDataset, Split
from augcam.data.datasets.stored import refuse_unreadable
from augcam.data.splits import hashed_split, stratified_holdout
from augcam.errors import UserError

log = logging.getLogger(__name__)

# What folders of a data set that is split already are called, in small letters.
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}

# No others that Pillow reads: to decode EPS it starts a program.
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
_WIDE = {"F": "floating-point numbers", "I": "integers of 32 bits"}
# Pillow only warns of an image of 90 to 180 million pixels; here it is refused as larger ones are.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class _Files:
    """The files of a split: where they are, their labels, and what stat says of each."""

    names: tuple[str, ...]  # relative to the root, "/" between folders, in Unicode's composed form
    paths: tuple[Path, ...]
    labels: np.ndarray
    sizes: tuple[int, ...]
    times: tuple[int, ...]

    def subset(self, index: np.ndarray) -> "_Files":
        chosen = index.tolist()
        return _Files(
            tuple(self.names[i] for i in chosen), tuple(self.paths[i] for i in chosen),
            self.labels[index], tuple(self.sizes[i] for i in chosen),
            tuple(self.times[i] for i in chosen),
        )  # fmt: skip


class ImageFolder(DecodedDataset):
    """Your own images: one folder per class, as at the top of this file.

    Each image is turned upright, converted to RGB, resized so that its short side is `image_size`,
    and cropped to the centre square.

    Args:
        root: the folder.
        image_size: side of the square, pixels.
        split: how images without train/ and test/ are split: "hash", or "shuffle" as AugCAM did
            at first, where one image more makes another split.
        memory_gb, cache: as of `DecodedDataset`.
        masks: a folder with a mask for each test image, if there is one: its path below ROOT, as a PNG
            (ROOT/test/cat/1.jpg has MASKS/test/cat/1.png), of its size; what is not black is the object.
    """

    def __init__(
        self,
        root: str | Path,
        image_size: int,
        split: Literal["hash", "shuffle"] = "hash",
        memory_gb: float = 1.0,
        cache: str | Path = "~/.cache/augcam",
        masks: str | Path | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.image_size = image_size
        self.split = split
        self.memory_gb = memory_gb
        self.cache = Path(cache).expanduser()
        self.masks = None if masks is None else Path(masks).expanduser()

    def prepare(self) -> None:
        """List the folders and open every test image's header: what cannot be used is said now.

        Raises:
            UserError: see `classes`, or a test file is not an image, or has no mask that fits.
        """
        train, test = self._files["train"], self._files["test"]
        problems = []
        for path in test.paths:
            try:
                with open_image(path):
                    pass
            except UserError as error:
                problems.append(str(error))
        refuse_unreadable(problems)
        self._check_masks(test)
        log.info(
            "%s: %s images of %d classes to train on, %s to test%s",
            _shown(self.root), f"{len(train.paths):,}", len(self.classes), f"{len(test.paths):,}",
            "" if self._divided else " (about a fifth of each class, by a hash of its name)",
        )  # fmt: skip
        if self._left_out:
            counts = ", ".join(f"{count:,} {why}" for why, count in self._left_out.most_common())
            log.warning("%s: left out: %s", _shown(self.root), counts)
        untested = np.setdiff1d(np.arange(len(self.classes)), test.labels)
        if len(untested):
            names = ", ".join(self.classes[label] for label in untested)
            log.warning("one image is too few to train on and to test: untested: %s", names)

    @property
    def classes(self) -> tuple[str, ...]:
        """The folders' names, sorted.

        Raises:
            UserError: the root cannot be read, has fewer than two classes or an empty one, is split
                but not into train/ and test/, or these have different classes.
        """
        return self._layout[0]

    def test(self) -> ImageSet:
        """The test images and their masks. Raises UserError, naming the files that cannot be read."""
        images = super().test()
        if self.masks is None:
            return images
        test = self._files["test"]
        self._check_masks(test)
        masks = [_read_mask(self._mask_of(name), self.image_size) for name in test.names]
        return replace(images, masks=np.stack(masks))

    def _mask_of(self, name: str) -> Path:
        assert self.masks is not None  # else nobody asks
        return self.masks / Path(name).with_suffix(".png")

    def _check_masks(self, test: _Files) -> None:
        """Refuse masks that are missing or of another size than their image; all are looked at."""
        if self.masks is None:
            return
        missing = [name for name in test.names if not self._mask_of(name).is_file()]
        if missing:
            raise UserError(
                f"data.masks={_shown(self.masks)}: {len(missing):,} of {len(test.names):,} test images "
                f"have no mask; the first is {_shown(missing[0])}, whose mask would be "
                f"{_shown(self._mask_of(missing[0]))}"
            )
        for name, path in zip(test.names, test.paths, strict=True):
            mask = self._mask_of(name)
            if (has := _size(mask)) != (needed := _size(path)):
                raise UserError(
                    f"{_shown(mask)}: {has[0]}x{has[1]} pixels do not fit its image, which has "
                    f"{needed[0]}x{needed[1]}"
                )

    @property
    def _side(self) -> int:
        return self.image_size

    def _labels(self, split: Split) -> np.ndarray:
        return self._files[split].labels

    def _image(self, split: Split, number: int) -> np.ndarray:
        return read_image(self._files[split].paths[number], self.image_size)

    def _contents(self) -> Iterator[str | int | bytes]:
        """Every image's split, name, size, and up to 48 KiB of its content.

        Of a larger file, its beginning, middle and end: enough to know a compressed image by.
        """
        for split, files in self._files.items():
            for name, path, size in zip(files.names, files.paths, files.sizes, strict=True):
                yield from (split, name, size, _sample(path, size))

    def _cache_key(self, split: Split) -> str:
        files = self._files[split]
        # Times too: a file changed in place is decoded anew, even if its size is the same.
        key = digest([*files.names, *files.sizes, *files.times])
        return f"folder-{split}-{self.image_size}-{key}"

    @property
    def _files(self) -> Mapping[str, _Files]:
        return self._layout[1]

    @property
    def _left_out(self) -> Counter[str]:
        return self._layout[2]

    @property
    def _divided(self) -> bool:
        """Whether there are train/ and test/."""
        return self._layout[3]

    @cached_property
    def _layout(self) -> tuple[tuple[str, ...], Mapping[str, _Files], Counter[str], bool]:
        left_out: Counter[str] = Counter()
        try:
            inside = _folders(self.root)
            if not {"train", "test"} <= set(inside):
                self._refuse_other_splits(inside)
                classes, files = self._classes_in(self.root, left_out)
                if self.split == "shuffle":
                    train, test = stratified_holdout(files.labels, len(files.paths) // 5, seed=0)
                else:
                    train, test = hashed_split(files.names, files.labels)
                if not len(test):
                    raise UserError(
                        f"data.root={_shown(self.root)}: every class has one image, so none is left "
                        "to test; two are needed at least"
                    )
                splits = {"train": files.subset(train), "test": files.subset(test)}
                return classes, splits, left_out, False
            classes, files = self._classes_in(self.root / "train", left_out)
            if len(there := _folders(self.root / "test")) < 2:
                found = f"{there[0]}/ alone" if there else "none"
                raise UserError(
                    f"data.root={_shown(self.root)}: test/ needs the class folders that train/ has; "
                    f"found {found}; {self._split_by_itself('train')}"
                )
            test_classes, test_files = self._classes_in(self.root / "test", left_out)
            self._count_beside(inside, left_out)
        except UserError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a NUL in the root's name
            where = getattr(error, "filename", None) or self.root
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"data.root={_shown(where)}: cannot be read ({reason})") from None
        if classes != test_classes:
            odd = ", ".join(sorted(set(classes) ^ set(test_classes)))
            raise UserError(
                f"data.root={_shown(self.root)}: train/ and test/ must have the same classes; "
                f"only one of them has {odd}"
            )
        return classes, {"train": files, "test": test_files}, left_out, True

    def _refuse_other_splits(self, inside: Sequence[str]) -> None:
        """Refuse a root whose folders are splits by their names, but not train/ and test/."""
        splits = [name for name in inside if name.lower() in _SPLIT_NAMES]
        if not splits or ("train" not in inside and len(splits) < len(inside)):
            return
        first = min(splits, key=lambda name: not name.lower().startswith("train"))
        raise UserError(
            f"data.root={_shown(self.root)}: found {', '.join(f'{name}/' for name in splits)} but no "
            f"{'test/' if 'train' in inside else 'train/ and test/'}; name them train/ and test/, "
            f"or give one: {self._split_by_itself(first)}"
        )

    def _split_by_itself(self, folder: str) -> str:
        return f"data.root={_shown(self.root / folder)} is split by itself"

    def _count_beside(self, inside: Sequence[str], left_out: Counter[str]) -> None:
        """Count the folders beside train/ and test/, which are not read; masks are."""
        beside = [
            f"{_shown(name)}/" for name in inside
            if name not in ("train", "test")
            and not (self.masks and self.masks.is_relative_to(self.root / name))
        ]  # fmt: skip
        if beside:
            names = ", ".join(beside[:3]) + (", ..." if len(beside) > 3 else "")
            left_out[f"beside train/ and test/ ({names})"] = len(beside)

    def _classes_in(self, root: Path, left_out: Counter[str]) -> tuple[tuple[str, ...], _Files]:
        classes = tuple(_folders(root))
        if len(classes) < 2:
            there = f"found {classes[0]}/ alone" if classes else "found none"
            raise UserError(
                f"data.root={_shown(root)}: two folders or more, one per class, are needed; {there}"
            )
        if odd := [name for name in classes if not name.isprintable()]:
            raise UserError(
                f"data.root={_shown(root)}: the class folder {_shown(odd[0])}/ has characters in "
                "its name that cannot be shown; rename it"
            )
        left_out["beside the class folders"] += sum(
            1 for path in root.iterdir() if not path.is_dir() and not path.name.startswith(".")
        )
        rows: list[tuple[str, Path, int, int, int]] = []
        for label, name in enumerate(classes):
            before = Counter(left_out)
            images = _images_in(root / name, root, left_out)
            if self.split == "shuffle":  # which files count decides how they are shuffled
                images = [one for one in images if _counted_at_first(one[0], root / name)]
            if not images:
                why = ", ".join(f"{n} {reason}" for reason, n in (left_out - before).items())
                raise UserError(
                    f"data.root={_shown(root)}: the class {name}/ has no image "
                    f"({why or ', '.join(sorted(_SUFFIXES))})"
                )
            for path, info in images:
                relative = path.relative_to(self.root).as_posix()
                # macOS hands out decomposed letters, others composed ones: one name on all.
                relative = unicodedata.normalize("NFC", relative)
                rows.append((relative, path, label, info.st_size, info.st_mtime_ns))
        left_out += Counter()  # drops zeros
        names, paths, labels, sizes, times = zip(*rows, strict=True)
        return classes, _Files(names, paths, np.array(labels, np.int64), sizes, times)


def read_image(path: Path, side: int) -> np.ndarray:
    """One file as uint8 (side, side, 3): short side to `side`, centre crop.

    Raises:
        UserError: the file is not an image that can be read whole.
    """
    with open_image(path) as opened:
        return to_square(opened, side)


def read_whole(path: Path, longest: int) -> np.ndarray:
    """One file as uint8 (H, W, 3), uncropped; scaled down where it is longer than `longest` pixels.

    Raises:
        UserError: the file is not an image that can be read whole.
    """
    with open_image(path) as opened:
        opened.draft("RGB", (longest, longest))
        image = _upright(opened)
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
        return np.asarray(image)


def _size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file that stands upright."""
    with open_image(path) as opened:
        turned = opened.getexif().get(0x0112, 1) >= 5  # the tag of its orientation
        return opened.size[::-1] if turned else opened.size


def _read_mask(path: Path, side: int) -> np.ndarray:
    """A mask as bool (side, side), resized and cropped as its image is."""
    with open_image(path) as opened:
        grey = ImageOps.exif_transpose(opened).convert("L").point(lambda value: 255 * (value > 0))
        return np.asarray(ImageOps.fit(grey, (side, side), Image.Resampling.BOX)) > 127


def to_square(image: Image.Image, side: int) -> np.ndarray:
    """An image as uint8 (side, side, 3): upright, RGB, short side to `side`, centre crop."""
    image.draft("RGB", (side, side))  # lets the JPEG decoder leave out what is not needed
    fitted = ImageOps.fit(_upright(image), (side, side), Image.Resampling.BICUBIC)
    return np.asarray(fitted)


def _upright(image: Image.Image) -> Image.Image:
    """As RGB, turned as its camera was held, on white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: RGB conversion would clip, not scale
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:  # RGB conversion would show what is under it, mostly black
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The file opened by Pillow, its header read.

    Raises:
        UserError: it is no image, or a bomb, or its range of values is unknown; or whatever else goes
            wrong within the context.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise ValueError("no regular file")
        with Image.open(path, formats=_FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS or 0
            if image.width * image.height > limit > 0:
                raise ValueError(
                    f"{image.width} x {image.height} pixels, over the limit of {limit:,}"
                )
            # A PNG of 16 bits may be "I" as well; of a TIFF these are 32 bits, or have a sign.
            if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
                raise UserError(
                    f"{_shown(path)}: its pixels are {_WIDE[image.mode]}, of which nobody knows what is "
                    "white; convert it to 8 bits a channel"
                )
            yield image
    except UserError:
        raise
    # Pillow's parsers and decoders raise all kinds, and all are about the file.
    except Exception as error:
        raise _not_an_image(path, error) from None


def _not_an_image(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).replace(str(path), "").split())[:120] or type(error).__name__
    return UserError(
        f"{_shown(path)}: not an image that can be read ({_shown(reason)}); repair or remove it"
    )


def _shown(text: object) -> str:
    """A name as one line that any terminal can print."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in str(text)
    )


def _is_hidden(name: str) -> bool:
    # macOS puts a ._NAME beside every file on foreign disks, and __MACOSX into archives.
    return name.startswith(".") or name == "__MACOSX"


def _folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if not _is_hidden(p.name) and p.is_dir())


def _images_in(
    folder: Path, root: Path, left_out: Counter[str]
) -> list[tuple[Path, os.stat_result]]:
    """The image files of a class, at any depth, sorted; what is left out is counted by its reason."""
    images: list[tuple[Path, os.stat_result]] = []
    # Links may lead in circles, and from several places to one: a folder is gone through once.
    known = {_identity(root.stat()), _identity(folder.stat())}
    todo = [folder]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if _is_hidden(entry.name):
                    left_out["hidden"] += 1
                    continue
                try:
                    info = path.stat()
                except OSError as error:
                    left_out[f"cannot be reached ({error.strerror})"] += 1
                    continue
                if stat.S_ISDIR(info.st_mode):
                    if _identity(info) in known:
                        left_out["a link to a folder that is gone through already"] += 1
                    else:
                        known.add(_identity(info))
                        todo.append(path)
                elif not stat.S_ISREG(info.st_mode):
                    left_out["a pipe, socket or device"] += 1
                elif path.suffix.lower() not in _SUFFIXES:
                    left_out[
                        f"no image by its name ({_shown(path.suffix.lower() or 'no suffix')})"
                    ] += 1
                else:
                    images.append((path, info))
    return sorted(images, key=lambda one: one[0])


def _counted_at_first(path: Path, folder: Path) -> bool:
    return path.parent == folder and path.suffix.lower() not in (".tif", ".tiff", ".gif")


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _sample(path: Path, size: int, block: int = 16_384) -> bytes:
    starts: Sequence[int] = (0, (size - block) // 2, size - block) if size > 3 * block else (0,)
    try:
        with path.open("rb") as file:
            if len(starts) == 1:
                return file.read(3 * block)
            content = b""
            for start in starts:
                file.seek(start)
                content += file.read(block)
            return content
    except OSError as error:
        raise _not_an_image(path, error) from None
