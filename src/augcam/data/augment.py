"""Config -> Albumentations pipeline, and the random stream of each sample.

Only this module and `corruptions` know Albumentations. A pipeline is the random part alone, image by
image on the CPU; the fixed tail, Normalize and ToTensorV2, is one `tail` for a whole batch on a device.
"""

import difflib
import inspect
import math
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks online for a newer version

import albumentations as A
import cv2
import numpy as np
import torch
from pydantic import ValidationError

from augcam.errors import UserError

cv2.setNumThreads(0)  # images are too small to share one among threads

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(value: int) -> int:
    """SplitMix64's step and finaliser, a bijection of 64 bits (Steele, Lea, Flood, OOPSLA 2014)."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class _SplitMix(random.Random):
    """Python's `random.Random` on SplitMix64, which is reseeded by setting one integer.

    The Mersenne Twister of `random.Random` takes 4.6 µs for that, as long as a flip. All other
    methods (uniform, randint, choice, shuffle ...) draw through these two.
    """

    position = 0

    def random(self) -> float:
        position = self.position
        self.position = (position + _GOLDEN) & _MASK
        return (_mixed(position) >> 11) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        bits = 0
        for _ in range(0, k, 64):
            bits = bits << 64 | _mixed(self.position)
            self.position = (self.position + _GOLDEN) & _MASK
        return bits >> (-k % 64)


class Pipeline:
    """The random part of an Albumentations pipeline, with a random stream of its own per sample.

    What happens to a sample is a pure function of (seed, epoch, index): the same in any process, in
    any order and after a resume. All transforms draw from one stream, one after the other;
    Albumentations' own seeding gives each transform the same numbers, so that two flips with p=0.5
    always agree. Without transforms, images come back as they are.

    Args:
        transforms: Albumentations transforms by name, in the order in which they are applied.
        seed: the run's seed.
    """

    def __init__(self, transforms: Mapping[str, A.BasicTransform], seed: int) -> None:
        self.transforms = dict(transforms)
        self.seed = seed
        self._steps = tuple(self.transforms.values())
        self._python = _SplitMix()
        self._numpy = np.random.Generator(np.random.PCG64(0))
        for transform in self._steps:
            transform.set_random_state(self._numpy, self._python)
        self._numpy_state: Any = self._numpy.bit_generator.state  # has_uint32 is 0: nothing is left
        self._seed_key = _mixed(seed & _MASK)
        self._epoch, self._epoch_key = 0, _mixed(self._seed_key)
        self._alternating = [step for step in self._steps if isinstance(step, AlternatingFlip)]

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """One augmented draw.

        Args:
            image: uint8 (H, W, 3).
            epoch: 0, 1, ...; another epoch is another draw.
            index: the sample's number in its set.

        Returns:
            uint8 (H, W, 3).
        """
        if epoch != self._epoch:
            self._epoch, self._epoch_key = epoch, _mixed((self._seed_key + epoch) & _MASK)
        key = _mixed((self._epoch_key + index) & _MASK)
        python = self._python
        python.position = key
        numpy_is_seeded = False
        for flip in self._alternating:
            flip.turn = epoch + (_mixed(((self._seed_key ^ _MASK) + index) & _MASK) & 1)
        for transform in self._steps:
            # The coin that BasicTransform.should_apply would toss, from the same stream: what is
            # not applied costs one draw and no call.
            if transform.p < 1 and python.random() >= transform.p:
                continue
            if not numpy_is_seeded:
                # 128 bits of state from the key; the increment, PCG64's choice of sequence, stays.
                other = key ^ _MASK
                self._numpy_state["state"]["state"] = _mixed(other) << 64 | _mixed(other ^ 1)
                self._numpy.bit_generator.state = self._numpy_state
                numpy_is_seeded = True
            image = transform(force_apply=True, image=image)["image"]
        return image

    def check(self, image: np.ndarray) -> None:
        """Apply each transform once to `image`, uint8 (H, W, 3), so that a misfit shows at once.

        Raises:
            UserError: a transform fails on such an image, or changes its size or type.
        """
        for name, transform in self.transforms.items():
            said = f"aug.{name}: {type(transform).__name__}"
            try:
                result = transform(force_apply=True, image=image.copy())["image"]
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{said} fails on an image of {image.shape}: {reason}") from None
            made = f"{getattr(result, 'dtype', '')} {tuple(getattr(result, 'shape', ()))}"
            if made != f"{image.dtype} {image.shape}":
                raise UserError(
                    f"{said} makes {made} of {image.dtype} {image.shape}: every image must keep "
                    "its size and type (Normalize and ToTensorV2 end every pipeline by themselves)"
                )


def tail(
    images: torch.Tensor,
    mean: torch.Tensor | Sequence[float],
    std: torch.Tensor | Sequence[float],
) -> torch.Tensor:
    """What Normalize(mean, std) and ToTensorV2 do to each image, for a batch, on its device.

    Args:
        images: uint8 (B, H, W, 3).
        mean, std: of each channel, of values in 0..1. Tensors on the images' device save a copy.

    Returns:
        float32 (B, 3, H, W): (images / 255 - mean) / std, in channels_last memory order, because
        the permuted NHWC array is just that.
    """
    device = images.device
    shift = torch.as_tensor(mean, dtype=torch.float32, device=device).mul(255)
    factor = torch.as_tensor(std, dtype=torch.float32, device=device).mul(255).reciprocal()
    # Written out for every pixel: torch does not vectorise over an innermost dimension of three.
    pixels = images.shape[1] * images.shape[2]
    rows = images.flatten(1).float().sub_(shift.repeat(pixels)).mul_(factor.repeat(pixels))
    return rows.view(images.shape).permute(0, 3, 1, 2)


class PadCrop(A.ImageOnlyTransform):
    """Shift the image by up to `padding` pixels each way: pad all sides, crop back at random.

    The crop of He et al. (2016) for CIFAR, for images of any size.

    Args:
        padding: pixels, at least 1.
        border_mode: OpenCV's border mode for the padding, a `cv2.BORDER_...`.
        p: probability.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        padding: int
        border_mode: int

    def __init__(
        self, padding: int = 4, border_mode: int = cv2.BORDER_REFLECT_101, p: float = 1.0
    ) -> None:
        if padding < 1:
            raise ValueError(f"padding={padding}: at least 1 pixel")
        super().__init__(p=p)
        self.padding = padding
        self.border_mode = border_mode

    def get_params(self) -> dict[str, Any]:
        return {
            "top": self.py_random.randint(0, 2 * self.padding),
            "left": self.py_random.randint(0, 2 * self.padding),
        }

    def apply(self, img: np.ndarray, top: int, left: int, **params: Any) -> np.ndarray:
        height, width = img.shape[:2]
        pad = self.padding
        padded = cv2.copyMakeBorder(img, pad, pad, pad, pad, self.border_mode)
        return padded[top : top + height, left : left + width]


class Cutout(A.ImageOnlyTransform):
    """Cutout as DeVries and Taylor have it (arXiv 1708.04552): the hole's centre is anywhere.

    Each pixel is the centre as often as the next, and the square is clipped at the border, so that
    in a corner a quarter of it is left. CoarseDropout's holes lie wholly inside the image instead.

    Args:
        size: side of the square, pixels, at least 1.
        fill: colour of the hole, 0..255, one value or three.
        p: probability.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        size: int
        fill: float | tuple[float, float, float]

    def __init__(
        self, size: int = 16, fill: float | tuple[float, float, float] = 0, p: float = 1.0
    ) -> None:
        if size < 1:
            raise ValueError(f"size={size}: at least 1 pixel")
        super().__init__(p=p)
        self.size = size
        self.fill = fill

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        # As the authors' code for even sizes; of an odd one it makes the next smaller even one.
        top = self.py_random.randrange(height) - self.size // 2
        left = self.py_random.randrange(width) - self.size // 2
        return {
            "rows": slice(max(top, 0), top + self.size),
            "columns": slice(max(left, 0), left + self.size),
        }

    def apply(self, img: np.ndarray, rows: slice, columns: slice, **params: Any) -> np.ndarray:
        img = img.copy()
        img[rows, columns] = self.fill
        return img


class AlternatingFlip(A.ImageOnlyTransform):
    """Mirror every image in every other epoch; half of them, chosen by the seed, begin mirrored.

    In two epochs an image is seen both ways, where a coin for each epoch shows half of the images
    the same way twice (Jordan, "94% on CIFAR-10 in 3.29 Seconds", arXiv 2404.00498, section 3.6).
    `Pipeline` says which image of which epoch is next, through `turn`.
    """

    def __init__(self) -> None:
        super().__init__(p=1.0)
        self.turn = 0

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        return cv2.flip(img, 1) if self.turn % 2 else img


class Rotate(A.Rotate):
    """`albumentations.Rotate`: same draws, same pixels, at a quarter of its time.

    Albumentations composes the matrix from six, a second time for bounding boxes, and then compares
    it with the identity; there are only images here.
    """

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        if self.crop_border:
            return super().get_params_dependent_on_data(params, data)
        angle = math.radians(self.py_random.uniform(*self.limit))
        cos, sin = math.cos(angle), math.sin(angle)
        height, width = params["shape"][:2]
        x, y = (width - 1) / 2, (height - 1) / 2
        # Turn about the centre: c + R (point - c).
        matrix = [[cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y]]
        return {"matrix": np.array(matrix)}

    def apply(self, img: np.ndarray, matrix: np.ndarray, **params: Any) -> np.ndarray:
        if self.crop_border:
            return super().apply(img, matrix=matrix, **params)
        fill = self.fill if isinstance(self.fill, Sequence) else (self.fill,) * 3
        return cv2.warpAffine(
            img,
            matrix,
            (img.shape[1], img.shape[0]),
            flags=self.interpolation,
            borderMode=self.border_mode,
            borderValue=fill,
        )


class CoarseDropout(A.CoarseDropout):
    """`albumentations.CoarseDropout`: same draws, same pixels, at two thirds of its time.

    Albumentations makes a new random generator for every image (17 µs), also where the holes get a
    plain colour and nothing is drawn from it.
    """

    def apply(self, img: np.ndarray, holes: np.ndarray, seed: int, **params: Any) -> np.ndarray:
        if isinstance(self.fill, str):
            return super().apply(img, holes=holes, seed=seed, **params)
        img = img.copy()
        for left, top, right, bottom in holes.tolist():
            img[top:bottom, left:right] = self.fill
        return img


_TRANSFORMS = {
    f"albumentations.{name}": value
    for name, value in vars(A).items()
    if isinstance(value, type) and issubclass(value, A.BasicTransform)
}
_TRANSFORMS |= {
    f"augcam.data.augment.{kind.__name__}": kind for kind in (PadCrop, Cutout, AlternatingFlip)
}
_TRANSFORMS |= {f"albumentations.{kind.__name__}": kind for kind in (Rotate, CoarseDropout)}


def build(aug: Mapping[str, Mapping[str, Any] | None], seed: int) -> Pipeline:
    """The pipeline that a config describes.

    Args:
        aug: transforms by name, in order: `{"flip": {"_target_": "albumentations.HorizontalFlip",
            "p": 0.5}}`. None leaves a transform out. A value may name an OpenCV constant:
            `{"_target_": "hydra.utils.get_object", "path": "cv2.BORDER_REFLECT_101"}`.
        seed: the run's seed.

    Raises:
        UserError: one line for every transform or argument that is unknown or out of range.
    """
    transforms: dict[str, A.BasicTransform] = {}
    problems: list[str] = []
    for name, settings in aug.items():
        if settings is None:
            continue
        try:
            transforms[name] = _transform(f"aug.{name}", settings)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return Pipeline(transforms, seed)


def _transform(key: str, settings: Mapping[str, Any]) -> A.BasicTransform:
    target = settings.get("_target_")
    kind = _TRANSFORMS.get(str(target))
    if kind is None:
        near = _nearest(str(target), list(_TRANSFORMS), cutoff=0.85)  # most begin alike
        raise UserError(
            f"{key}._target_={target}: no such transform; {near}"
            "any transform of Albumentations 2 can be named, as albumentations.Rotate"
        )
    valid = [name for name in inspect.signature(kind).parameters if name != "strict"]
    problems: list[str] = []
    arguments: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "_target_":
            continue
        if name not in valid:
            problems.append(
                f"{key}: {kind.__name__} has no argument {name!r}; {_nearest(name, valid)}"
                f"valid: {', '.join(valid)}"
            )
            continue
        try:
            arguments[name] = _constant(f"{key}.{name}", value)
        except UserError as error:
            problems.append(str(error))
    try:
        transform = kind(**arguments)
    except Exception as error:  # whatever a constructor says is about the request
        problems += _in_words(key, kind, error)
    if problems:
        raise UserError("\n".join(problems))
    return transform


def _constant(key: str, value: Any) -> Any:
    """`value`, or the OpenCV constant that it names."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    path = str(value.get("path"))
    name = path.removeprefix("cv2.")
    constant = getattr(cv2, name, None)
    if value["_target_"] != "hydra.utils.get_object" or name == path or type(constant) is not int:
        near = _nearest(name, [known for known, number in vars(cv2).items() if type(number) is int])
        raise UserError(
            f"{key}: {path} is no constant of OpenCV; {near}"
            "write {_target_: hydra.utils.get_object, path: cv2.BORDER_REFLECT_101}"
        )
    return constant


def _nearest(name: str, valid: Sequence[str], cutoff: float = 0.4) -> str:
    near = difflib.get_close_matches(name, valid, n=2, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}? " if near else ""


def _in_words(key: str, kind: type[A.BasicTransform], error: Exception) -> list[str]:
    """One line for each value that a transform refuses."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [f"{key}: {kind.__name__}: {' '.join(str(error).split())[:200]}"]
    said: dict[str, list[str]] = {}
    for problem in cause.errors(include_url=False):
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        where = problem["loc"]
        if not where:
            said.setdefault(f"{key}: {kind.__name__}", []).append(message)
        elif problem["type"] == "missing":
            said.setdefault(f"{key}.{where[0]}", []).append(f"{kind.__name__} needs a value")
        else:
            said.setdefault(f"{key}.{where[0]}={problem['input']}", []).append(message)
    return [f"{place}: {' or '.join(dict.fromkeys(words))}" for place, words in said.items()]
