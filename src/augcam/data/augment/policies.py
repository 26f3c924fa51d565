"""RandAugment and its kin: torchvision's policies, drawn from the sample's own stream.

What a policy may choose, and how strong each choice is, is read from `torchvision.transforms.v2`. Its
classes draw from torch's global stream and apply an operation in 40 to 100 µs; here a policy draws
through Albumentations' generators, so that a sample depends on (seed, epoch, index) alone, and
applies the same operations with OpenCV, in a few µs each (`python bench/data.py` compares them).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
from torchvision.transforms import v2

Fill = float | Sequence[float]
Choice = tuple[str, float]  # an operation and its magnitude, signed; 0.0 where it has none

_IDENTITY = np.arange(256, dtype=np.uint8)


class _Policy(A.ImageOnlyTransform):
    """Draws a few operations for each image, and applies them one after the other.

    A subclass says in `draw` which operations; magnitudes are those of torchvision's class `space`.
    """

    space: Mapping[str, tuple[Callable[[int, int, int], Any], bool]]

    class InitSchema(A.BasicTransform.InitSchema):
        fill: float | tuple[float, float, float]

    def __init__(self, fill: Fill = 0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.fill = fill

    def draw(self, height: int, width: int) -> list[Choice]:
        """The operations for one image of this size, drawn from `self.py_random`."""
        raise NotImplementedError

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        return {"choices": self.draw(*params["shape"][:2])}

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        return self.applied(img, params["choices"])

    def applied(self, img: np.ndarray, choices: Sequence[Choice]) -> np.ndarray:
        """The image, uint8 (H, W, 3), after these operations in order."""
        for name, magnitude in choices:
            img = apply_operation(img, name, magnitude, self.fill)
        return img

    def magnitude(self, name: str, index: int, bins: int, height: int, width: int) -> float:
        """Of the operation at place `index` of `bins`; a signed one turns round half of the times."""
        values, signed = self.space[name]
        value = _magnitudes(values, bins, height, width)[index]
        if signed and self.py_random.random() < 0.5:
            return -value
        return value


@lru_cache(maxsize=4096)
def _magnitudes(
    values: Callable[[int, int, int], Any], bins: int, height: int, width: int
) -> tuple[float, ...]:
    made = values(bins, height, width)
    return (0.0,) * bins if made is None else tuple(float(value) for value in made)


class RandAugment(_Policy):
    """`num_ops` operations, drawn with repetition, all of the same strength.

    Cubuk, Zoph, Shlens, Le, "RandAugment", arXiv 1909.13719; its space is torchvision's.

    Args:
        num_ops: operations an image, at least 1.
        magnitude: 0 to num_magnitude_bins - 1; the paper's CIFAR-10 networks use 5 to 20 of 31.
        num_magnitude_bins: steps from none to the strongest.
        fill: colour of the pixels that a shift lays bare, 0..255, one value or three.
        p: probability.
    """

    space = v2.RandAugment._AUGMENTATION_SPACE

    class InitSchema(_Policy.InitSchema):
        num_ops: int
        magnitude: int
        num_magnitude_bins: int

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        fill: Fill = 0,
        p: float = 1.0,
    ) -> None:
        if num_ops < 1:
            raise ValueError(f"num_ops={num_ops}: at least 1")
        if not 0 <= magnitude < num_magnitude_bins:
            raise ValueError(
                f"magnitude={magnitude}: 0 to {num_magnitude_bins - 1} of "
                f"num_magnitude_bins={num_magnitude_bins} are possible"
            )
        super().__init__(fill=fill, p=p)
        self.num_ops = num_ops
        self.level = magnitude
        self.num_magnitude_bins = num_magnitude_bins

    def draw(self, height: int, width: int) -> list[Choice]:
        names = self.py_random.choices(list(self.space), k=self.num_ops)
        bins = self.num_magnitude_bins
        return [(name, self.magnitude(name, self.level, bins, height, width)) for name in names]


class TrivialAugmentWide(_Policy):
    """One operation an image, of a strength drawn from the whole range: nothing to tune.

    Müller, Hutter, "TrivialAugment", arXiv 2103.10158, the wide space; torchvision's.

    Args:
        num_magnitude_bins: steps from none to the strongest.
        fill: colour of the pixels that a shift lays bare, 0..255, one value or three.
        p: probability.
    """

    space = v2.TrivialAugmentWide._AUGMENTATION_SPACE

    class InitSchema(_Policy.InitSchema):
        num_magnitude_bins: int

    def __init__(self, num_magnitude_bins: int = 31, fill: Fill = 0, p: float = 1.0) -> None:
        if num_magnitude_bins < 2:
            raise ValueError(f"num_magnitude_bins={num_magnitude_bins}: at least 2")
        super().__init__(fill=fill, p=p)
        self.num_magnitude_bins = num_magnitude_bins

    def draw(self, height: int, width: int) -> list[Choice]:
        name = self.py_random.choice(list(self.space))
        bins = self.num_magnitude_bins
        index = self.py_random.randrange(bins)
        return [(name, self.magnitude(name, index, bins, height, width))]


class AutoAugment(_Policy):
    """One of 25 pairs of operations, each applied with a probability of its own, found by search.

    Cubuk et al., "AutoAugment", arXiv 1805.09501; the policies are torchvision's.

    Args:
        policy: `cifar10`, `imagenet` or `svhn`, the data that the pairs were searched on.
        fill: colour of the pixels that a shift lays bare, 0..255, one value or three.
        p: probability.
    """

    space = v2.AutoAugment._AUGMENTATION_SPACE

    class InitSchema(_Policy.InitSchema):
        policy: str

    def __init__(self, policy: str = "cifar10", fill: Fill = 0, p: float = 1.0) -> None:
        super().__init__(fill=fill, p=p)
        known = {member.value: member for member in v2.AutoAugmentPolicy}
        if policy not in known:
            raise ValueError(f"policy={policy}: one of {', '.join(known)}")
        self.policy = policy
        self._pairs = v2.AutoAugment(known[policy])._policies

    def draw(self, height: int, width: int) -> list[Choice]:
        chosen = []
        for name, probability, index in self.py_random.choice(self._pairs):
            if self.py_random.random() <= probability:
                chosen.append((name, self.magnitude(name, index or 0, 10, height, width)))
        return chosen


class AugMix(_Policy):
    """A blend of the image and a few chains of operations on it, weights drawn anew each time.

    Hendrycks et al., "AugMix", arXiv 1912.02781; operations and strengths are torchvision's. The
    paper's second half, a loss that asks three views of an image for the same answer, is
    `loss.jsd`.

    Args:
        severity: 1..10, the strongest place of ten that a chain's operations are drawn from.
        mixture_width: chains.
        chain_depth: operations of each chain; -1 draws 1 to 3.
        alpha: of the Dirichlet and Beta distributions of the weights.
        fill: colour of the pixels that a shift lays bare, 0..255, one value or three.
        p: probability.
    """

    # Without brightness, colour, contrast and sharpness: CIFAR-10-C tests with some of these.
    space = v2.AugMix._PARTIAL_AUGMENTATION_SPACE

    class InitSchema(_Policy.InitSchema):
        severity: int
        mixture_width: int
        chain_depth: int
        alpha: float

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        fill: Fill = 0,
        p: float = 1.0,
    ) -> None:
        if not 1 <= severity <= 10:
            raise ValueError(f"severity={severity}: 1 to 10 are possible")
        if mixture_width < 1:
            raise ValueError(f"mixture_width={mixture_width}: at least 1")
        if alpha <= 0:
            raise ValueError(f"alpha={alpha}: above 0")
        super().__init__(fill=fill, p=p)
        self.severity = severity
        self.mixture_width = mixture_width
        self.chain_depth = chain_depth
        self.alpha = alpha

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        names = list(self.space)
        kept, mixed = self._dirichlet(2)
        weights = [mixed * weight for weight in self._dirichlet(self.mixture_width)]
        chains = []
        for _ in range(self.mixture_width):
            depth = self.chain_depth if self.chain_depth > 0 else self.py_random.randint(1, 3)
            chain = self.py_random.choices(names, k=depth)
            chains.append(
                [
                    (
                        n,
                        self.magnitude(
                            n, self.py_random.randrange(self.severity), 10, height, width
                        ),
                    )
                    for n in chain
                ]
            )
        return {"kept": kept, "weights": weights, "chains": chains}

    def _dirichlet(self, size: int) -> list[float]:
        parts = [self.py_random.gammavariate(self.alpha, 1.0) for _ in range(size)]
        return [part / sum(parts) for part in parts]

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        blend = img.astype(np.float32) * params["kept"]
        for weight, chain in zip(params["weights"], params["chains"], strict=True):
            blend += weight * self.applied(img, chain)
        return blend.astype(np.uint8)  # cut off, as torchvision does


# ------------------------------------------------------------------------------- operations


def apply_operation(image: np.ndarray, name: str, magnitude: float, fill: Fill = 0) -> np.ndarray:
    """One operation of a policy, as torchvision applies it to a PIL image.

    Args:
        image: uint8 (H, W, 3).
        name: torchvision's, as `ShearX`.
        magnitude: in torchvision's unit: radians' tangent for shears, pixels, degrees, a factor less
            one, bits, a share of 255.
        fill: colour of the pixels that a shift lays bare, 0..255.

    Returns:
        uint8 (H, W, 3).

    Raises:
        KeyError: there is no operation of this name.
    """
    return _OPERATIONS[name](image, magnitude, fill)


def _warp(image: np.ndarray, matrix: Sequence[Sequence[float]], fill: Fill) -> np.ndarray:
    """`matrix` (2, 3) leads from a place in the result to one in the image, in PIL's coordinates.

    There pixel 0 reaches from 0 to 1; OpenCV's pixel 0 is the point 0.
    """
    (a, b, c), (d, e, f) = matrix
    shifted = np.array(
        [[a, b, c + (a + b - 1) / 2], [d, e, f + (d + e - 1) / 2]],
    )
    height, width = image.shape[:2]
    return cv2.warpAffine(
        image,
        shifted,
        (width, height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(fill) if isinstance(fill, Sequence) else (fill,) * 3,
    )


def _rotate(image: np.ndarray, magnitude: float, fill: Fill) -> np.ndarray:
    height, width = image.shape[:2]
    angle = math.radians(magnitude)  # anticlockwise
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = width / 2, height / 2
    return _warp(
        image, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)), fill
    )


@lru_cache(maxsize=4096)
def _blend_table(level: int, factor: float) -> np.ndarray:
    """PIL's blend of a plain level and each value: uint8 (256,), cut off and clipped."""
    values = level + np.float32(factor) * (np.arange(256, dtype=np.float32) - level)
    return np.clip(values, 0, 255).astype(np.uint8)


def _blended(plain: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    start = plain.astype(np.float32)
    values = start + np.float32(factor) * (image - start)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """ITU-R 601's luma, rounded as PIL does: uint8 (H, W)."""
    weighted = image.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)


def _contrast(image: np.ndarray, magnitude: float, fill: Fill) -> np.ndarray:
    level = int(_grey(image).mean() + 0.5)
    return cv2.LUT(image, _blend_table(level, 1 + magnitude))


def _colour(image: np.ndarray, magnitude: float, fill: Fill) -> np.ndarray:
    return _blended(_grey(image)[..., None], image, 1 + magnitude)


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def _sharpness(image: np.ndarray, magnitude: float, fill: Fill) -> np.ndarray:
    if min(image.shape[:2]) <= 2:
        return image
    smooth = image.copy()  # PIL leaves the outermost pixels as they are
    smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, _SMOOTH)[1:-1, 1:-1]
    return _blended(smooth, image, 1 + magnitude)


@lru_cache(maxsize=256)
def _solarize_table(threshold: float) -> np.ndarray:
    return np.where(threshold > _IDENTITY, _IDENTITY, 255 - _IDENTITY)


def _autocontrast(image: np.ndarray, magnitude: float, fill: Fill) -> np.ndarray:
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    tables = np.stack([_stretch_table(int(a), int(b)) for a, b in zip(low, high, strict=True)])
    return cv2.LUT(image, tables.T[None])


@cache
def _stretch_table(low: int, high: int) -> np.ndarray:
    if high <= low:
        return _IDENTITY
    scale = 255.0 / (high - low)
    return np.clip(np.arange(256) * scale - low * scale, 0, 255).astype(np.uint8)


def _equalize(image: np.ndarray, magnitude: float, fill: Fill) -> np.ndarray:
    tables = np.stack([_equalize_table(image[..., channel]) for channel in range(3)], axis=-1)
    return cv2.LUT(image, tables[None])


def _equalize_table(plane: np.ndarray) -> np.ndarray:
    counts = np.bincount(plane.ravel(), minlength=256)
    last = counts[np.flatnonzero(counts)[-1]]
    step = (plane.size - last) // 255
    if step == 0:
        return _IDENTITY
    below = np.cumsum(counts) - counts
    return np.minimum((step // 2 + below) // step, 255).astype(np.uint8)


_OPERATIONS: dict[str, Callable[[np.ndarray, float, Fill], np.ndarray]] = {
    "Identity": lambda image, magnitude, fill: image,
    # A point (x, y) of the result comes from x + m y: torchvision's centre of a shear is the corner.
    "ShearX": lambda image, m, fill: _warp(image, ((1, m, 0), (0, 1, 0)), fill),
    "ShearY": lambda image, m, fill: _warp(image, ((1, 0, 0), (m, 1, 0)), fill),
    "TranslateX": lambda image, m, fill: _warp(image, ((1, 0, -int(m)), (0, 1, 0)), fill),
    "TranslateY": lambda image, m, fill: _warp(image, ((1, 0, 0), (0, 1, -int(m))), fill),
    "Rotate": _rotate,
    "Brightness": lambda image, m, fill: cv2.LUT(image, _blend_table(0, 1 + m)),
    "Color": _colour,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": lambda image, m, fill: image & np.uint8(0x100 - (1 << (8 - int(m)))),
    "Solarize": lambda image, m, fill: cv2.LUT(image, _solarize_table(255 * m)),
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": lambda image, m, fill: ~image,
}
