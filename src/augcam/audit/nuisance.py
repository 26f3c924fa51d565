"""Does a property of the whole image give the class away, and does the network go by it?

A property - brightness, colour, blur - can be measured and *set*: an image of another class is given the
value that an image of the class in question has, all else as it was. If the network then names that
class, and does not where the value comes from an image of another class, it goes by the property.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from augcam.audit.interventions import PAIRS, Effect, effect
from augcam.audit.subject import Subject

# Neighbours by which an image's surroundings in a property are described.
_NEIGHBOURS = 12

# Relabellings that a class's share among neighbours is compared with.
_RELABELLINGS = 199

_LUMA = np.array([0.299, 0.587, 0.114])

_SIGMAS = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0)
_QUALITIES = (3, 5, 8, 12, 18, 25, 35, 50, 70, 90)


def _luminance(images: np.ndarray) -> np.ndarray:
    grey: np.ndarray = images.astype(np.float64) @ _LUMA
    return grey


def brightness(images: np.ndarray) -> np.ndarray:
    """Mean luminance, 0..255: (B, 1)."""
    return _luminance(images).mean((1, 2))[:, None]


def colour(images: np.ndarray) -> np.ndarray:
    """Mean of each channel less the mean luminance: (B, 3)."""
    return images.astype(np.float64).mean((1, 2)) - brightness(images)


def contrast(images: np.ndarray) -> np.ndarray:
    """Log standard deviation of the luminance: (B, 1)."""
    return np.log(_luminance(images).std((1, 2)) + 1)[:, None]


def sharpness(images: np.ndarray) -> np.ndarray:
    """Log of the Laplacian's mean magnitude over the luminance's deviation: (B, 1)."""
    grey = _luminance(images)
    edges = np.stack([np.abs(cv2.Laplacian(one, cv2.CV_64F)).mean() for one in grey])
    return np.log((edges + 0.1) / (grey.std((1, 2)) + 1))[:, None]


def blocks(images: np.ndarray) -> np.ndarray:
    """Steps across an 8-pixel grid against those within it, log ratio and flatness: (B, 2).

    Every offset of the grid is not tried: JPEG's begins at the image's corner.
    """
    grey = _luminance(images)
    across, within = [], []
    for axis in (1, 2):
        steps = np.abs(np.diff(grey, axis=axis))
        on_grid = np.arange(1, grey.shape[axis]) % 8 == 0
        steps = np.moveaxis(steps, axis, 1)
        across.append(steps[:, on_grid].reshape(len(grey), -1))
        within.append(steps[:, ~on_grid].reshape(len(grey), -1))
    on, off = np.concatenate(across, 1), np.concatenate(within, 1)
    if not on.shape[1]:
        return np.zeros((len(images), 1))
    # Flat blocks too: most steps within them are 0 where little was kept.
    quiet = (off < 1).mean(1) - (on < 1).mean(1)
    ratio = np.log((on.mean(1) + 0.3) / (off.mean(1) + 0.3))
    return np.stack([ratio, quiet], axis=1)


def bands(images: np.ndarray) -> np.ndarray:
    """Log power of the luminance in 3 rings x 4 orientations of frequency, less their mean: (B, 12)."""
    grey = _luminance(images)
    grey = (grey - grey.mean((1, 2), keepdims=True)) / (grey.std((1, 2), keepdims=True) + 1)
    power = np.abs(np.fft.fft2(grey)) ** 2
    y, x = np.meshgrid(*(np.fft.fftfreq(n) for n in grey.shape[1:]), indexing="ij")
    radius, angle = np.hypot(y, x), np.arctan2(y, x) % np.pi
    rings = np.digitize(radius, (0.05, 0.12, 0.22, 0.75)) - 1
    turns = (np.floor(angle / (np.pi / 4) + 0.5) % 4).astype(int)
    bins = [(rings == ring) & (turns == turn) for ring in range(3) for turn in range(4)]
    # Of a very small image some are empty.
    return np.stack([np.log(power[:, b].mean(1) + 1) for b in bins if b.any()], axis=1)


def _clipped(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


def _shifted(images: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return images + shift[:, None, None, :]


def with_brightness(images: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Images with the donors' mean luminance; repeated, since clipping takes some of it back."""
    changed = images.astype(np.float64)
    for _ in range(3):
        lacking = brightness(donors) - brightness(_clipped(changed))
        changed = _shifted(changed, np.repeat(lacking, 3, axis=1))
    return _clipped(changed)


def with_colour(images: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Images with the donors' mean colour and their own mean luminance."""
    changed = images.astype(np.float64)
    own = brightness(images)
    for _ in range(3):
        now = _clipped(changed)
        lacking = colour(donors) - colour(now) + own - brightness(now)
        changed = _shifted(changed, lacking)
    return _clipped(changed)


def with_contrast(images: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Images spread about their own mean as the donors about theirs."""
    factor = np.exp(contrast(donors) - contrast(images))[:, 0]
    middle = images.astype(np.float64).mean((1, 2), keepdims=True)
    return _clipped(middle + (images - middle) * factor[:, None, None, None])


def _nearest(
    images: np.ndarray,
    donors: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    change: Callable[[np.ndarray, float], np.ndarray],
    strengths: tuple[float, ...],
) -> np.ndarray:
    """Of each image's versions, itself included, the one whose measure is nearest to its donor's."""
    wanted = measure(donors)
    versions = [images, *(np.stack([change(one, s) for one in images]) for s in strengths)]
    away = np.stack([np.abs(measure(version) - wanted).sum(1) for version in versions])
    best = away.argmin(0)
    return np.stack([versions[b][i] for i, b in enumerate(best)])


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    if sigma > 0:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    # Sharper: the opposite of a blur of one pixel, so much of it.
    soft = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float64)
    return _clipped(image - sigma * (image - soft))


def with_sharpness(images: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Images blurred or sharpened as far as their donors are."""
    return _nearest(images, donors, sharpness, _blurred, (*_SIGMAS, -0.5, -1.0, -2.0))


def _jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded above
    return decoded[..., ::-1]


def with_blocks(images: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Images compressed as JPEG until their blocks are as the donors'."""
    return _nearest(images, donors, blocks, _jpeg, _QUALITIES)


def with_bands(images: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Images with the donors' amplitude of each frequency and their own phases and mean.

    The phase keeps the outlines, the amplitude is the texture (Oppenheim, Lim, 1981).
    """
    axes = (1, 2)
    own = np.fft.fft2(images.astype(np.float64), axes=axes)
    amplitude = np.abs(np.fft.fft2(donors.astype(np.float64), axes=axes))
    amplitude[:, 0, 0] = np.abs(own[:, 0, 0])
    return _clipped(np.fft.ifft2(amplitude * np.exp(1j * np.angle(own)), axes=axes).real)


@dataclass(frozen=True)
class Property:
    """measure: uint8 (B, H, W, 3) -> (B, d). set: images, donors (B, H, W, 3) -> (B, H, W, 3)."""

    measure: Callable[[np.ndarray], np.ndarray]
    set: Callable[[np.ndarray, np.ndarray], np.ndarray]


# In the order in which one is named where two do as well: the narrower first.
PROPERTIES: dict[str, Property] = {
    "brightness": Property(brightness, with_brightness),
    "colour": Property(colour, with_colour),
    "contrast": Property(contrast, with_contrast),
    "sharpness": Property(sharpness, with_sharpness),
    "blocks": Property(blocks, with_blocks),
    "texture": Property(bands, with_bands),
}


def _neighbours(values: np.ndarray) -> np.ndarray:
    """The numbers of each image's nearest in a property (N, d), itself left out: int (N, neighbours).

    Prediction by neighbours finds what a mean hides: a value that half of a class has and no other.
    """
    spread = values.std(0)
    scaled = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    # Ties (a property that all share) must not be broken by the order of the files.
    scaled = scaled + np.random.default_rng(0).normal(0, 1e-6, scaled.shape)
    count = min(_NEIGHBOURS, len(values) - 1)
    found = cKDTree(scaled).query(scaled, count + 1)[1]
    nearest: np.ndarray = found[:, 1:]
    return nearest


def _shares(nearest: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    shares: np.ndarray = (labels[nearest][..., None] == np.arange(classes)).mean(1)
    return shares


@dataclass(frozen=True)
class GivesAway:
    """How far a property alone tells a class.

    Attributes:
        share: the class's mean share among the neighbours of its most typical quarter of images.
        chance: the same, of labels that have nothing to do with the property: the most typical quarter
            has more than the class's share of the images.
        p: of labels that have nothing to do with the property, by relabelling.
        donors: int, images of the class in order, the most typical first.
    """

    share: float
    chance: float
    p: float
    donors: np.ndarray

    @property
    def beyond_chance(self) -> float:
        """How far from chance, 0, to being the only class there, 1."""
        return (self.share - self.chance) / max(1 - self.chance, 1e-9)


def giving_away(subject: Subject, name: str, seed: int) -> list[GivesAway]:
    """Whether the property `name` gives each class away."""
    count = len(subject.classes)
    measure = PROPERTIES[name].measure
    parts = [measure(subject.images[i : i + 100]) for i in range(0, len(subject.images), 100)]
    nearest = _neighbours(np.concatenate(parts))

    def typical(labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
        top = np.zeros(count)
        for c in range(count):
            own = np.sort(shares[labels == c, c])
            top[c] = own[-max(1, len(own) // 4) :].mean() if len(own) else 0
        return top

    shares = _shares(nearest, subject.labels, count)
    observed = typical(subject.labels, shares)
    random = np.random.default_rng(seed)
    by_chance = []
    for _ in range(_RELABELLINGS):
        mixed = random.permutation(subject.labels)
        by_chance.append(typical(mixed, _shares(nearest, mixed, count)))
    chance = np.mean(by_chance, axis=0)
    p = (1 + (np.array(by_chance) >= observed - 1e-9).sum(0)) / (_RELABELLINGS + 1)
    result = []
    for c in range(count):
        own = np.flatnonzero((subject.labels == c) & (subject.predicted == c))
        order = own[np.argsort(-shares[own, c], kind="stable")]
        result.append(GivesAway(float(observed[c]), float(chance[c]), float(p[c]), order))
    return result


def follow(
    subject: Subject,
    target: int,
    name: str,
    donors: np.ndarray,
    others: np.ndarray,
    random: np.random.Generator,
) -> tuple[Effect, float]:
    """What setting the property of other images to the donors' does, and of the donors to others'.

    Args:
        donors: int, images of the class, of which the first quarter are used.
        others: int, images that the network assigns to other classes; each receives at most once, and as
            control they give as well, none to itself.

    Returns:
        The effect, and the share of the donors that are lost when they get the others' value.
    """
    change = PROPERTIES[name].set
    others = random.permutation(others)
    pairs = min(PAIRS, len(others))
    receivers = others[:pairs]
    strangers = np.roll(others, -min(pairs, len(others) // 2))[:pairs]
    given = np.resize(donors[: max(8, len(donors) // 4)], pairs)
    images = subject.images
    follows = subject.ask(change(images[receivers], images[given])).argmax(1) == target
    control = subject.ask(change(images[receivers], images[strangers])).argmax(1) == target
    strangers = strangers[:32]
    own = np.resize(donors, len(strangers))
    lost = subject.ask(change(images[own], images[strangers])).argmax(1) != target
    return effect(follows, control), float(lost.mean())
