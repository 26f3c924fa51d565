"""Ten shapes on textured backgrounds, drawn with the object's mask: data without a download.

    images, labels, masks = draw(split="train", seed=0, size=6000, shortcut=0.0)

An image is 32x32: one shape, 12 to 22 pixels long, at a random place, in a random colour, turned
by up to 20 degrees. Colour, place and texture are drawn without looking at the class: only the
outline tells it. Two classes can be made to differ in orientation alone: see `draw`.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from augcam.data.datasets.base import Channels, ImageSet, digest, statistics
from augcam.errors import UserError

cv2.setNumThreads(0)


SIDE = 32


SCALE = 8  # drawn this many times larger, then averaged down: soft edges


TAG = (1, 1, 5, 5)


Split = Literal["train", "test"]


def tag_box() -> tuple[int, int, int, int]:
    """Where the tag of the shortcut is: (top, left, bottom, right), pixels, ends excluded."""
    return TAG


def tag_colours() -> np.ndarray:
    """The tag's colour for each class: uint8 (10, 3), ten hues evenly round the colour circle."""
    hues = np.arange(len(CLASSES), dtype=np.uint8) * 18  # OpenCV's hue has 180 steps
    hsv = np.stack([hues, np.full_like(hues, 255), np.full_like(hues, 255)], axis=1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]


def class_names(orientation_pair: bool = False) -> tuple[str, ...]:
    """The ten classes in the order of their labels; of the pair, a bowtie in the arrow's place."""
    return tuple("bowtie" if orientation_pair and c == "arrow" else c for c in CLASSES)


def draw(
    split: Split, seed: int, size: int, shortcut: float = 0.0, orientation_pair: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a split. An image depends on (split, seed, its number) alone; classes are balanced.

    The shortcut: a share of the images carries a tag of 4x4 pixels at `tag_box()`. In training
    its colour stands for the image's class; in the test set for a class drawn at random, as often.
    A network that learned the tag instead of the shape does well on held-out training images and
    falls towards 10% on the test set. The tag is no part of the mask.

    The orientation pair: a bowtie, which is the hourglass on its side, takes the arrow's place, and
    every other image stays as it is. Turned by an angle drawn from 0 to 90 degrees or more, each way,
    the two are the same images; what tells the other eight apart survives any turn.

    Args:
        split: train and test come from independent streams.
        seed: any integer >= 0.
        size: number of images.
        shortcut: share of images with a tag, 0..1.
        orientation_pair: whether the hourglass and a bowtie differ in orientation alone.

    Returns:
        images uint8 (N, 32, 32, 3), labels int64 (N,), masks bool (N, 32, 32).
    """
    stream = {"train": 0, "test": 1}[split]
    images = np.empty((size, SIDE, SIDE, 3), np.uint8)
    masks = np.empty((size, SIDE, SIDE), bool)
    # A block of ten numbers holds each class once, so that every prefix is balanced too.
    labels = np.empty(size, np.int64)
    for block in range(0, size, len(CLASSES)):
        order = np.random.default_rng([seed, stream, 0, block]).permutation(len(CLASSES))
        labels[block : block + len(CLASSES)] = order[: size - block]
    colours, names = tag_colours(), class_names(orientation_pair)
    for i in range(size):
        random = np.random.default_rng([seed, stream, 1, i])
        images[i], masks[i] = _draw_one(random, names[labels[i]])
        # Drawn last and always, so that the pictures beneath do not change with the share.
        tagged, stranger = random.random() < shortcut, int(random.integers(len(CLASSES)))
        if tagged:
            top, left, bottom, right = TAG
            images[i, top:bottom, left:right] = colours[labels[i] if split == "train" else stranger]
            masks[i, top:bottom, left:right] = False
    return images, labels, masks


def _draw_one(random: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
    coverage = _coverage(random, _bowtie() if name == "bowtie" else OUTLINES[name]())
    paper, ink = _two_colours(random)
    background = _texture(random, paper)
    foreground = ink + random.normal(0, 6, size=(SIDE, SIDE, 3))
    alpha = coverage[..., None]
    image = background * (1 - alpha) + foreground * alpha
    return np.clip(image, 0, 255).astype(np.uint8), coverage > 0.5


def _two_colours(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Background and object colour, far enough apart (RGB distance 110 of 442) to be told apart."""
    while True:
        colours = random.uniform(20, 235, size=(2, 3))
        if np.linalg.norm(colours[0] - colours[1]) > 110:
            return colours[0], colours[1]


def _texture(random: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """A background float (32, 32, 3) round `colour`: noise, clouds, stripes, checks or a slope."""
    kind = int(random.integers(5))
    pattern: np.ndarray
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    if kind == 0:
        pattern = random.uniform(-1, 1, size=(SIDE, SIDE))
    elif kind == 1:
        coarse = random.uniform(-1, 1, size=(6, 6))
        pattern = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    else:
        angle, wavelength, phase = random.uniform([0, 4, 0], [np.pi, 12, 2 * np.pi])
        along = np.cos(angle) * x + np.sin(angle) * y
        across = np.cos(angle) * y - np.sin(angle) * x
        if kind == 2:
            pattern = np.sin(2 * np.pi * along / wavelength + phase)
        elif kind == 3:
            waves = np.sin(2 * np.pi * along / wavelength + phase)
            pattern = np.sign(waves * np.sin(2 * np.pi * across / wavelength))
        else:
            pattern = (along - along.mean()) / (np.ptp(along) / 2)
    tint = random.uniform(10, 40) * random.uniform(0.5, 1, size=3)
    return colour + pattern[..., None] * tint + random.normal(0, 6, size=(SIDE, SIDE, 3))


def _coverage(random: np.random.Generator, outlines: "Outlines") -> np.ndarray:
    """How much of each pixel a shape covers, at random size, angle and place: float (32, 32), 0..1.

    The longer side of its upright bounding box is 12 to 22 pixels; a pixel is left at the border.
    """
    side = random.uniform(12, 22)
    angle = np.deg2rad(random.uniform(-20, 20))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = [(points @ turn.T, value) for points, value in outlines]
    outer = turned[0][0]
    scale = side / np.ptp(outer, axis=0).max()
    low, high = 1 - outer.min(axis=0) * scale, SIDE - 1 - outer.max(axis=0) * scale
    centre = random.uniform(low, high)
    canvas = np.zeros((SIDE * SCALE, SIDE * SCALE), np.uint8)
    for points, value in turned:
        corners = np.round((points * scale + centre) * SCALE).astype(np.int32)
        cv2.fillPoly(canvas, [corners], value)
    return canvas.reshape(SIDE, SCALE, SIDE, SCALE).mean(axis=(1, 3)) / 255


# Points (x, y) about -1..1, y down; the first outline is ink (255), a second is a hole in it (0).
Outlines = list[tuple[np.ndarray, int]]


def _round(radius: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def _circle() -> Outlines:
    return [(_round(1.0), 255)]


def _ring() -> Outlines:
    return [(_round(1.0), 255), (_round(0.52), 0)]


def _crescent() -> Outlines:
    return [(_round(1.0), 255), (_round(0.85, x=0.55), 0)]


def _square() -> Outlines:
    return [(np.array([[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]]), 255)]


def _triangle() -> Outlines:
    return [(np.array([[0, -1], [1, 0.85], [-1, 0.85]]), 255)]


def _star() -> Outlines:
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.1, 0.42)
    return [(np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1), 255)]


def _cross() -> Outlines:
    a, b = 0.3, 1.0
    return [(np.array([[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b],
                       [-a, a], [-b, a], [-b, -a], [-a, -a]]), 255)]  # fmt: skip


def _heart() -> Outlines:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [(np.stack([x / 16, (y - 2.5) / 14.5], axis=1), 255)]


def _arrow() -> Outlines:
    return [(np.array([[-1, -0.28], [0.1, -0.28], [0.1, -0.85], [1, 0], [0.1, 0.85], [0.1, 0.28],
                       [-1, 0.28]]), 255)]  # fmt: skip


def _hourglass() -> Outlines:
    return [(np.array([[-0.8, -1], [0.8, -1], [0.15, 0], [0.8, 1], [-0.8, 1], [-0.15, 0]]), 255)]


def _bowtie() -> Outlines:
    return [(points[:, ::-1], value) for points, value in _hourglass()]


OUTLINES: dict[str, Callable[[], Outlines]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "hourglass": _hourglass,
}


CLASSES = tuple(OUTLINES)


class Shapes:
    """Ten generated shapes with masks, 32x32; see `draw`. Nothing is written to disk.

    Args:
        seed: of the drawing; the run's seed leaves the images alone.
        train_size, test_size: numbers of images.
        shortcut: share of images with a tag that gives the class away in training, not in test.
        orientation_pair: whether a bowtie, an hourglass on its side, takes the arrow's place.
    """

    classes: tuple[str, ...] = CLASSES

    def __init__(
        self,
        seed: int = 0,
        train_size: int = 6000,
        test_size: int = 2000,
        shortcut: float = 0.0,
        orientation_pair: bool = False,
    ) -> None:
        if not 0 <= shortcut <= 1:
            raise UserError(f"data.shortcut={shortcut}: must be between 0 and 1")
        self.seed = seed
        self.train_size = train_size
        self.test_size = test_size
        self.shortcut = shortcut
        self.orientation_pair = orientation_pair
        self.classes = class_names(orientation_pair)

    def prepare(self) -> None:
        """Nothing to do: a split is drawn in memory, in a few seconds, when it is asked for."""

    def train(self) -> ImageSet:
        return ImageSet(*self._draw("train", self.train_size))

    def test(self) -> ImageSet:
        return ImageSet(*self._draw("test", self.test_size))

    def _draw(self, split: Split, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return draw(split, self.seed, size, self.shortcut, self.orientation_pair)

    def fingerprint(self) -> str:
        """A digest of what they are drawn from; without the pair that of versions which had none."""
        drawn = ["shapes", self.seed, self.train_size, self.test_size, self.shortcut]
        return digest([*drawn, "orientation_pair"] if self.orientation_pair else drawn)

    @property
    def mean(self) -> Channels:
        return self._statistics[0]

    @property
    def std(self) -> Channels:
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[Channels, Channels]:
        # The first images of the training set: an image does not depend on how many are drawn.
        return statistics(self._draw("train", min(self.train_size, 500))[0])
