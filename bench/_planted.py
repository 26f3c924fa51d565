"""Planted cues: images in which something beside the object gives the class away.

    cue = CUES["tag"]
    image, box = cue.draw(image, around, level, rng)

A cue has ten levels, one for each class where all carry one; `around` is where the object is not.
Everything is a pure function of (seed, split, number of the image).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import cv2
import numpy as np

from augcam.data.datasets.base import ImageSet
from augcam.data.datasets.cifar import CIFAR10
from augcam.data.datasets.shapes import CLASSES, OUTLINES, Shapes, draw, tag_colours

SIDE = 32
LEVELS = 10
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels, ends excluded
Draw = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], tuple[np.ndarray, Box | None]]
Scope = Literal["honest", "distractor", "one", "all"]


def _filled(image: np.ndarray, box: Box, colour: np.ndarray) -> tuple[np.ndarray, Box]:
    top, left, bottom, right = box
    image = image.copy()
    image[top:bottom, left:right] = colour
    return image, box


def tag(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, Box]:
    """A square of 4x4 pixels in the upper left corner, its hue the level's."""
    return _filled(image, (1, 1, 5, 5), tag_colours()[level])


def roaming_tag(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, Box]:
    """The same square, anywhere."""
    top, left = rng.integers(0, SIDE - 3, size=2).tolist()
    return _filled(image, (top, left, top + 4, left + 4), tag_colours()[level])


def border_line(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, Box]:
    """A line of two pixels along the lower edge, its hue the level's."""
    return _filled(image, (SIDE - 2, 0, SIDE, SIDE), tag_colours()[level])


def watermark(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, Box]:
    """Three letters near the lower right corner, a quarter of the way to white."""
    letters = np.zeros((SIDE, SIDE), np.uint8)
    text = ("IMG", "PIX", "FOT", "WEB", "COM", "ART", "LAB", "CAM", "NET", "RAW")[level]
    cv2.putText(letters, text, (10, SIDE - 3), cv2.FONT_HERSHEY_PLAIN, 0.6, 255, 1, cv2.LINE_AA)
    alpha = letters[..., None] / 255 * 0.25
    rows, columns = np.nonzero(letters)
    box = (int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    return (image * (1 - alpha) + 255 * alpha).astype(np.uint8), box


def colour_cast(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, None]:
    """An eighth of the way to the level's hue, everywhere."""
    return (image * 0.875 + tag_colours()[level] * 0.125).astype(np.uint8), None


def brightness(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, None]:
    """Mean brightness moved to 50, 70, ... 230 by the level, give or take 3."""
    wanted = 50 + 20 * level + rng.normal(0, 3)
    return np.clip(image + (wanted - image.mean()), 0, 255).astype(np.uint8), None


def blur(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, None]:
    """Gaussian blur; its standard deviation grows with the level, up to 1.5 pixels."""
    if level == 0:
        return image, None
    return cv2.GaussianBlur(image, (0, 0), level / 6), None


def texture(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, None]:
    """Fine stripes, four pixels long, around the object: the level's direction, any phase."""
    angle = np.pi * level / LEVELS
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    along = np.cos(angle) * x + np.sin(angle) * y
    stripes = 20 * np.sin(2 * np.pi * along / 4 + rng.uniform(0, 2 * np.pi)) * around
    return np.clip(image + stripes[..., None], 0, 255).astype(np.uint8), None


def jpeg_blocks(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, None]:
    """JPEG at a quality from 95 down to 10 by the level."""
    quality = (95, 80, 65, 52, 42, 34, 27, 21, 15, 10)[level]
    _, written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    compressed = np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR), np.uint8)
    return compressed, None


def second_object(
    image: np.ndarray, around: np.ndarray, level: int, rng: np.random.Generator
) -> tuple[np.ndarray, Box]:
    """A small outline, just under 8 pixels long, in a random colour, anywhere: the level's shape."""
    points = OUTLINES[CLASSES[level]]()[0][0]
    points = (points - points.min(0)) / np.ptp(points, axis=0).max() * 7.8
    top, left = rng.integers(0, SIDE - 8, size=2).tolist()
    drawn = np.zeros((SIDE * 8, SIDE * 8), np.uint8)
    cv2.fillPoly(drawn, [np.round((points + np.array([left, top])) * 8).astype(np.int32)], 255)
    alpha = drawn.reshape(SIDE, 8, SIDE, 8).mean((1, 3))[..., None] / 255
    # Away from the ground's brightness, so that it can be seen.
    ground = image[top : top + 8, left : left + 8].mean()
    colour = rng.uniform(0, 60, 3) if ground > 127 else rng.uniform(195, 255, 3)
    return (image * (1 - alpha) + colour * alpha).astype(np.uint8), (top, left, top + 8, left + 8)


@dataclass(frozen=True)
class Cue:
    """A cue.

    Attributes:
        draw: from an image uint8 (32, 32, 3), where its object is not bool (32, 32), and a level.
        family: `place` where the cue is always at one place, `thing` where it may be anywhere,
            `property` where it is one of the whole image.
        alone: the levels to choose from where one class carries it.
        properties: what the audit may call it.
    """

    draw: Draw
    family: Literal["place", "thing", "property"]
    alone: tuple[int, ...] = tuple(range(LEVELS))
    properties: tuple[str, ...] = ()


CUES = {
    "tag": Cue(tag, "place"),
    "watermark": Cue(watermark, "place"),
    "border line": Cue(border_line, "place"),
    "roaming tag": Cue(roaming_tag, "thing"),
    "second object": Cue(second_object, "thing"),
    "colour cast": Cue(colour_cast, "property", properties=("colour",)),
    "brightness": Cue(brightness, "property", (0, 9), ("brightness",)),
    "blur": Cue(blur, "property", (9,), ("sharpness",)),
    "texture": Cue(texture, "property", properties=("texture",)),
    "JPEG blocks": Cue(jpeg_blocks, "property", (9,), ("blocks",)),
}
# Never run while the audit was written.
LEFT_OUT = "border line"


@dataclass(frozen=True)
class Design:
    """One network's data.

    Attributes:
        data: which images.
        seed: of everything that is drawn.
        scope: `honest` plants nothing; `distractor` plants on images of all classes alike, which tells
            nothing of the class; `one` class carries the cue, or `all` do, each its own level.
        cue: a key of `CUES`; of no meaning where nothing is planted.
        prevalence: share of the images of a class that carry its cue.
    """

    data: Literal["shapes", "cifar10"]
    seed: int
    scope: Scope = "honest"
    cue: str = ""
    prevalence: float = 0.0

    def __str__(self) -> str:
        parts = [self.data, str(self.seed), self.scope]
        if self.cue:
            parts += [self.cue.replace(" ", "-"), f"{self.prevalence:.2f}"]
        return "_".join(parts)

    @property
    def target(self) -> int:
        """The class that carries the cue where one does."""
        return int(np.random.default_rng([self.seed, 7]).integers(LEVELS))

    def level(self, label: int) -> int | None:
        """The level that gives this class away; None where nothing does."""
        if self.scope == "all":
            return label
        if self.scope == "one" and label == self.target:
            return int(np.random.default_rng([self.seed, 8]).choice(CUES[self.cue].alone))
        return None

    def planted(self) -> list[int]:
        """The classes that are given away."""
        return [label for label in range(LEVELS) if self.level(label) is not None]


def planted(
    design: Design, split: Literal["train", "test"], size: int
) -> tuple[ImageSet, list[Box | None]]:
    """A design's images with its cue, and where it is on each of them."""
    bare = _bare(design.data, design.seed, split, size)
    images = np.array(bare.images[:])
    boxes: list[Box | None] = [None] * size
    stream = {"train": 0, "test": 1}[split]
    for i, label in enumerate(bare.labels.tolist()):
        rng = np.random.default_rng([design.seed, stream, i])
        level = design.level(label)
        if design.scope == "distractor":
            level = int(rng.integers(LEVELS))
        if level is not None and rng.random() < design.prevalence:
            images[i], boxes[i] = CUES[design.cue].draw(images[i], _around(bare, i), level, rng)
    return replace(bare, images=images), boxes


def pasted(design: Design, label: int, size: int) -> np.ndarray:
    """Images of the other classes, all with the cue of class `label`: uint8 (N, 32, 32, 3)."""
    bare = _bare(design.data, design.seed, "test", size)
    level = design.level(label)
    assert level is not None, "a class that carries the cue"
    others = np.flatnonzero(bare.labels != label)
    return np.stack(
        [
            CUES[design.cue].draw(
                bare.images[i], _around(bare, i), level, np.random.default_rng([design.seed, 2, i])
            )[0]
            for i in others.tolist()
        ]
    )


def _around(images: ImageSet, i: int) -> np.ndarray:
    """Where image i's object is not; without a mask, outside the ellipse that most objects fill."""
    if images.masks is not None:
        return ~images.masks[i]
    y, x = (np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2) / 12
    return x**2 + y**2 > 1


def _bare(data: str, seed: int, split: Literal["train", "test"], size: int) -> ImageSet:
    if data == "shapes":
        return ImageSet(*draw(split, seed, size))
    everything = _cifar(split)
    rng = np.random.default_rng([seed, 9])
    each = [
        rng.permutation(np.flatnonzero(everything.labels == label))[: size // LEVELS]
        for label in range(LEVELS)
    ]
    return everything.subset(np.concatenate(each))


@cache
def _cifar(split: Literal["train", "test"]) -> ImageSet:
    data = CIFAR10(os.environ.get("AUGCAM_DATA", "data"))
    return data.train() if split == "train" else data.test()


def class_names(data: str) -> tuple[str, ...]:
    """The names of the ten classes."""
    return Shapes.classes if data == "shapes" else CIFAR10.classes
