"""CIFAR-10-C: the official corrupted test images of CIFAR-10, from files that the user has.

Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(arXiv 1903.12261); https://zenodo.org/record/2535967. A file `NAME.npy` for each corruption, uint8
(5 N, H, W, 3): the N test images, in the test set's order, at severity 1, then at 2, and so on to 5; and
their labels in `labels.npy`, (5 N,).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from augcam.errors import UserError, nearest, shown

SEVERITIES = (1, 2, 3, 4, 5)

# The fifteen that the mean corruption error is over, in the paper's order, and its four extra ones.
STANDARD = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")

# Of the files in CIFAR-10-C.tar (MD5 56bf5dcef84df0e2308c6dcbcbbd8499). The archive's page has only its
# own; these are the ones that torch-uncertainty checks (torch_uncertainty/datasets/classification/cifar/
# cifar_c.py).
MD5 = MappingProxyType({
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "labels": "c439b113295ed5254878798ffe28fd54",
})  # fmt: skip


@dataclass(frozen=True)
class Cifar10C:
    """A folder of such files, looked through.

    Attributes:
        names: of the corruptions that are there: all STANDARD ones, then those of EXTRA.
        digest: of all files; another set of files has another one.
        others: names of files that are not the official ones, by their MD5.
    """

    folder: Path
    names: tuple[str, ...]
    digest: str
    others: tuple[str, ...]
    _files: dict[str, np.ndarray] = field(repr=False)

    def check(self, labels: np.ndarray, size: tuple[int, int]) -> None:
        """Refuse files that do not belong to a test set.

        Args:
            labels: int (N,), the test set's, in its order.
            size: height and width of its images.

        Raises:
            UserError: another number of images, another size, or labels in another order.
        """
        own, shape = self._files["labels"], self._files[self.names[0]].shape
        wanted = (len(SEVERITIES) * len(labels), *size, 3)
        if shape != wanted:
            raise UserError(
                f"corruptions={self.folder}: its files are {shape}; this test set of {len(labels):,} "
                f"images needs {wanted}"
            )
        different = int((own != np.tile(labels, len(SEVERITIES))).sum())
        if different:
            raise UserError(
                f"corruptions={self.folder}: {different:,} of {len(own):,} labels in labels.npy are not "
                "those of the test set: other images, or another order"
            )

    def images(self, name: str, severity: int, index: np.ndarray) -> np.ndarray:
        """The test images at `index`, int (M,), under one corruption: uint8 (M, H, W, 3)."""
        file = self._files[name]
        first = (severity - 1) * (len(file) // len(SEVERITIES))
        return np.asarray(file[first + index])


def open_cifar10c(folder: Path) -> Cifar10C:
    """Look through a folder of CIFAR-10-C; its files are mapped into memory and never unpickled.

    Raises:
        UserError: a file is missing, or is not such an array.
    """
    if not folder.is_dir():
        beside = [path.name for path in folder.parent.glob("*") if path.is_dir()]
        hint = f"; {nearest(folder.name, beside)}" if beside else ""
        raise UserError(f"corruptions={folder}: no such folder{hint}")
    there = {path.stem for path in folder.glob("*.npy")}
    missing = [name for name in (*STANDARD, "labels") if name not in there]
    if missing:
        raise UserError(
            f"corruptions={folder}: {len(missing)} of {len(STANDARD) + 1} files are missing, such as "
            f"{missing[0]}.npy; it must be the unpacked CIFAR-10-C.tar of "
            "https://zenodo.org/record/2535967"
        )
    names = (*STANDARD, *(name for name in EXTRA if name in there))
    files = {name: _mapped(folder / f"{name}.npy") for name in (*names, "labels")}
    _check_shapes(files, names)
    sums = {name: _md5(folder / f"{name}.npy") for name in files}
    everything = hashlib.blake2b("".join(sums.values()).encode(), digest_size=16).hexdigest()
    others = tuple(name for name, found in sums.items() if found != MD5[name])
    return Cifar10C(folder, names, everything, others, files)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise UserError(f"{path}: not an array of numbers ({shown(error)})") from None


def _check_shapes(files: dict[str, np.ndarray], names: Sequence[str]) -> None:
    first = files[names[0]].shape
    for name in names:
        file = files[name]
        fits = file.ndim == 4 and file.shape[3] == 3 and file.shape == first
        if file.dtype != np.uint8 or not fits or not first[0] or first[0] % len(SEVERITIES):
            raise UserError(
                f"{name}.npy is {file.dtype} {file.shape}; all must be uint8 (5 x test images, "
                "height, width, 3), as the official (50000, 32, 32, 3)"
            )
    labels = files["labels"]
    if labels.dtype.kind not in "iu" or labels.shape != first[:1]:
        raise UserError(
            f"labels.npy is {labels.dtype} {labels.shape}; {first[0]:,} whole numbers are needed"
        )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
