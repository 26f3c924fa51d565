"""Does it cause the answer? A part of one image, pasted into images of other classes, same place.

A *donor* is an image that the network assigns to the class in question, a *receiver* one that it assigns
to another. If the network names the donor's class once a small part of the donor is in the receiver,
and does not where pixels from elsewhere in the same donor are pasted there, that part carries the class.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.special import softmax

from augcam.audit.subject import Subject, margins
from augcam.explain.faithfulness.road import impute

# Donors whose every region is tried, and pairs (carrier, new receiver) of the test.
DONORS = 16
PAIRS = 64

# At least so many donors must carry the class in one part before a test is made.
LEAST_CARRIERS = 3

# A part that carries the class in more than this share of other images is no small thing.
FOLLOWS = 0.2

# Pixels of an image beyond which nothing is imputed.
_MOST_IMPUTED = 512 * 512

# Largest region that the search grows to, as a share of the image.
_LARGEST = 0.25


@dataclass(frozen=True)
class Region:
    """A part of the image plane, (top, left, bottom, right) in pixels; `frame` is a border's width."""

    box: tuple[int, int, int, int]
    frame: int = 0

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """bool (H, W)."""
        top, left, bottom, right = self.box
        mask = np.zeros(size, bool)
        mask[top:bottom, left:right] = True
        if self.frame:
            mask[top + self.frame : bottom - self.frame, left + self.frame : right - self.frame] = (
                False
            )
        return mask


@dataclass(frozen=True)
class Effect:
    """What an intervention does to the network's answers.

    Attributes:
        follow_rate: share of the receivers that become the donor's class.
        control_rate: the same under the matched control.
        p: that at most `FOLLOWS` of the receivers follow where their control does not, or that the
            control moves as many: the larger of two exact binomial tests.
        pairs: receivers.
    """

    follow_rate: float
    control_rate: float
    p: float
    pairs: int


def effect(follows: np.ndarray, control: np.ndarray, level: float = FOLLOWS) -> Effect:
    """From bool (n,) each: whether the receiver becomes the class, with and under the control.

    A receiver counts as moved where it follows and its control does not. Where the control alone moves
    others, it has to move fewer (McNemar's exact test).
    """
    moved, back = int((follows & ~control).sum()), int((control & ~follows).sum())
    n = len(follows)
    if not n:
        return Effect(0.0, 0.0, 1.0, 0)
    tests = [(moved, n, level)] + [(moved, moved + back, 0.5)] * (moved + back > 0)
    p = max(stats.binomtest(*test, alternative="greater").pvalue for test in tests)
    return Effect(float(follows.mean()), float(control.mean()), float(p), n)


def windows(size: tuple[int, int]) -> list[Region]:
    """Squares of a quarter of the shorter side, half overlapping: any tag of half that is in one."""
    height, width = size
    side = max(2, min(size) // 4)
    step = max(1, side // 2)

    def starts(length: int) -> list[int]:
        return sorted({*range(0, length - side + 1, step), length - side})

    return [
        Region((top, left, top + side, left + side))
        for top in starts(height)
        for left in starts(width)
    ]


def borders(size: tuple[int, int]) -> list[Region]:
    """A strip along each side, an eighth of the image wide, and a frame of a sixteenth."""
    height, width = size
    deep, wide = max(1, height // 8), max(1, width // 8)
    return [
        Region((0, 0, deep, width)),
        Region((height - deep, 0, height, width)),
        Region((0, 0, height, wide)),
        Region((0, width - wide, height, width)),
        Region((0, 0, height, width), frame=max(1, min(size) // 16)),
    ]


def paste(donors: np.ndarray, receivers: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Receivers with the donors' pixels where masks (B, H, W) are true: uint8 (B, H, W, 3)."""
    return np.where(masks[..., None], donors, receivers)


def elsewhere(donors: np.ndarray) -> np.ndarray:
    """Donors moved by half their size each way: what is pasted now comes from another place."""
    height, width = donors.shape[1:3]
    return np.roll(donors, (height // 2, width // 2), axis=(1, 2))


def scan(subject: Subject, donor: int, receiver: int, regions: list[Region]) -> np.ndarray:
    """The logits where each region of image `donor` is pasted into image `receiver`: float32 (R, C)."""
    masks = np.stack([region.mask(subject.size) for region in regions])
    return subject.ask(paste(subject.images[donor][None], subject.images[receiver][None], masks))


@dataclass(frozen=True)
class Patch:
    """A part of the image that carries a class.

    Attributes:
        effect: on receivers that had no part in finding it, of the parts of the carriers, by which it
            was found.
        fixed: whether it is at the same place in all donors.
        region: that place; None where it moves.
        carriers: numbers of the donors whose part carries the class.
        regions: the place in each carrier.
        share: carriers among the donors that were tried.
        averaged: follow rate of the mean of the carriers' pixels: a tag is the same in all of them and
            survives, an object does not. None where it moves.
        area: share of the image.
        at_edge: whether the place reaches the outermost eighth of the image; False where it moves.
    """

    effect: Effect
    fixed: bool
    region: Region | None
    carriers: np.ndarray
    regions: list[Region]
    share: float
    averaged: float | None
    area: float
    at_edge: bool = False


@dataclass(frozen=True)
class _Asked:
    """One class under question, and the images to ask with.

    Attributes:
        target: the class.
        donors: int (D,), images that the network assigns to it.
        search, others: int, images that it assigns to other classes: receivers to find a part with,
            and to test it with.
    """

    subject: Subject
    target: int
    donors: np.ndarray
    search: np.ndarray
    others: np.ndarray
    random: np.random.Generator

    @property
    def first(self) -> np.ndarray:
        """The receiver that each donor is searched with: int (D,)."""
        return np.resize(self.search, len(self.donors))


def find_patch(
    subject: Subject,
    target: int,
    donors: np.ndarray,
    others: np.ndarray,
    extra: list[Region],
    random: np.random.Generator,
) -> Patch | None:
    """The smallest part that carries the class: at one place, or wherever it is in each donor.

    Args:
        donors: int (D,), images that the network assigns to the class.
        others: int, images that it assigns to other classes.
        extra: regions to try beside the windows and borders, as those where the maps lie.

    Returns:
        None where hardly any donor has such a part.
    """
    squares = windows(subject.size)
    regions = [*squares, *borders(subject.size), *extra]
    # What is found with some receivers is tested with others.
    others = random.permutation(others)
    others, search = np.split(others, [-min(len(others) // 2, 2 * DONORS)])
    asked = _Asked(subject, target, donors, search, others, random)
    logits = np.stack(
        [
            scan(subject, donor, receiver, regions)
            for donor, receiver in zip(donors, asked.first, strict=True)
        ]
    )
    areas = np.array([r.mask(subject.size).mean() for r in regions])
    heat = np.where(areas <= _LARGEST, softmax(logits, axis=-1)[..., target], 0)
    named = (logits.argmax(-1) == target) & (areas <= _LARGEST)

    fixed = _fixed(asked, regions, heat, named)
    evidence = margins(logits[:, : len(squares)], target)
    moving = _moving(asked, squares, evidence, named[:, : len(squares)].any(1))
    if fixed is None or moving is None:
        return fixed or moving
    fixed, moving = _one_of_two(fixed), _one_of_two(moving)
    # What stays in its place explains more than what does not, if it does as much.
    better = fixed.effect.follow_rate * max(fixed.share, 1e-9) >= (
        0.7 * moving.effect.follow_rate * moving.share
    )
    return fixed if better else moving


def _one_of_two(patch: Patch) -> Patch:
    """The patch with Bonferroni's correction for the choice between two that were tested."""
    return replace(patch, effect=replace(patch.effect, p=min(1.0, 2 * patch.effect.p)))


def _moving(
    asked: _Asked, regions: list[Region], evidence: np.ndarray, carry: np.ndarray
) -> Patch | None:
    """The part of each carrier that carries the class, wherever it is.

    Args:
        evidence: the margins of the class, (D, R), and `carry`, (D,), which donors have such a part.
    """
    if carry.sum() < LEAST_CARRIERS:
        return None
    carriers = asked.donors[carry]
    places = [
        _settled(asked.subject, asked.target, carrier, receiver, regions[best])
        for carrier, receiver, best in zip(
            carriers, asked.first[carry], evidence[carry].argmax(1), strict=True
        )
    ]
    tested = _test(asked, carriers, places)
    area = float(places[0].mask(asked.subject.size).mean())
    return Patch(tested, False, None, carriers, places, float(carry.mean()), None, area)


def _settled(subject: Subject, target: int, donor: int, receiver: int, region: Region) -> Region:
    """The region moved by half the windows' step each way, where that adds evidence."""
    top, left, bottom, right = region.box
    height, width = subject.size
    step = max(1, (bottom - top) // 4)
    tops = sorted({min(max(0, top + by), height - bottom + top) for by in (-step, 0, step)})
    lefts = sorted({min(max(0, left + by), width - right + left) for by in (-step, 0, step)})
    moved = [Region((y, x, y + bottom - top, x + right - left)) for y in tops for x in lefts]
    return moved[int(margins(scan(subject, donor, receiver, moved), target).argmax())]


def _fixed(
    asked: _Asked, regions: list[Region], heat: np.ndarray, named: np.ndarray
) -> Patch | None:
    """The part at one place that carries the class.

    Args:
        heat: the class's probability, (D, R), and `named` whether it is the answer.
    """
    subject = asked.subject
    # The best half of the donors: a cue need not be in every image.
    half = np.sort(heat, axis=0)[len(asked.donors) // 2 :].mean(0)
    areas = np.array([r.mask(subject.size).mean() for r in regions])
    # Among regions that do as well, the smallest.
    near = np.flatnonzero(half >= 0.9 * half.max())
    chosen = int(near[np.lexsort((-half[near], areas[near]))[0]])
    carries = named[:, chosen]
    if carries.sum() < LEAST_CARRIERS:
        return None
    carriers = asked.donors[carries]
    region = _fitted(asked, carriers, regions[chosen])
    places = [region] * len(carriers)
    tested = _test(asked, carriers, places)
    mask = region.mask(subject.size)
    mean = subject.images[carriers].astype(np.float64).mean(0).round().astype(np.uint8)
    receivers = asked.random.permutation(asked.others)[: PAIRS // 2]
    averaged = paste(mean[None], subject.images[receivers], mask[None])
    follows = subject.ask(averaged).argmax(1) == asked.target
    deep = max(1, min(subject.size) // 8)
    return Patch(
        tested, True, region, carriers, places, float(carries.mean()), float(follows.mean()),
        float(mask.mean()), at_edge=bool(mask.sum() > mask[deep:-deep, deep:-deep].sum()),
    )  # fmt: skip


def _test(asked: _Asked, carriers: np.ndarray, places: list[Region]) -> Effect:
    """The carriers' parts in new receivers, and as control pixels from elsewhere in the carriers."""
    subject, target, random = asked.subject, asked.target, asked.random
    receivers = random.permutation(asked.others)[:PAIRS]
    which = np.resize(random.permutation(len(carriers)), len(receivers))
    masks = np.stack([places[i].mask(subject.size) for i in which])
    given, taken = subject.images[carriers[which]], subject.images[receivers]
    follows = subject.ask(paste(given, taken, masks)).argmax(1) == target
    control = subject.ask(paste(elsewhere(given), taken, masks)).argmax(1) == target
    return effect(follows, control)


def _fitted(asked: _Asked, carriers: np.ndarray, region: Region) -> Region:
    """The region grown while that adds evidence and then cut back while nothing is lost.

    Evidence is the margin of the target's logit over the largest other, which goes on growing where
    the answer no longer changes.
    """
    if region.frame:
        return region
    subject, target, random = asked.subject, asked.target, asked.random
    count = 16
    which = np.resize(random.permutation(len(carriers)), count)
    receivers = np.resize(random.permutation(asked.search), count)
    given, taken = subject.images[carriers[which]], subject.images[receivers]
    without = float(margins(subject.ask(taken), target).mean())
    height, width = subject.size

    def gain(box: tuple[int, int, int, int]) -> float:
        mask = Region(box).mask(subject.size)
        pasted = paste(given, taken, mask[None])
        return float(margins(subject.ask(pasted), target).mean()) - without

    def moved(box: tuple[int, int, int, int], side: int, by: int) -> tuple[int, int, int, int]:
        sides = list(box)
        sides[side] += by
        top, left, bottom, right = sides
        return max(0, top), max(0, left), min(height, bottom), min(width, right)

    def area(box: tuple[int, int, int, int]) -> float:
        return (box[2] - box[0]) * (box[3] - box[1]) / (height * width)

    outward = (-1, -1, 1, 1)
    box, best = region.box, gain(region.box)
    step = max(1, min(subject.size) // 8)
    for _ in range(4):
        trials = [moved(box, side, step * outward[side]) for side in range(4)]
        trials = [t for t in trials if t != box and area(t) <= _LARGEST]
        gains = [gain(t) for t in trials]
        if not gains or max(gains) < 1.15 * best:
            break
        best, box = max(gains), trials[int(np.argmax(gains))]
    step = max(1, min(subject.size) // 32)
    full = best
    cutting = True
    while cutting:
        cutting = False
        for side in range(4):
            trial = moved(box, side, -step * outward[side])
            if trial[2] - trial[0] < step or trial[3] - trial[1] < step:
                continue
            if gain(trial) >= 0.85 * full:
                box, cutting = trial, True
    return Region(box)


def drop_when_covered(
    subject: Subject, target: int, patch: Patch, images: np.ndarray, random: np.random.Generator
) -> float | None:
    """Share of the class's images that are lost when the part is covered, beyond one elsewhere.

    Covered is imputed from around (ROAD, arXiv 2202.00449), which leaves no edge.

    Args:
        images: int, numbers of images that the network assigns to the class; for a moving part the
            carriers are used.
    """
    if patch.region is None:
        chosen, places = patch.carriers, patch.regions
    else:
        chosen = random.permutation(images)[:24]
        places = [patch.region] * len(chosen)
    masks = np.stack([place.mask(subject.size) for place in places])
    height, width = subject.size
    # The imputation solves for all pixels at once: a large image does not fit into memory.
    if masks.all((1, 2)).any() or height * width > _MOST_IMPUTED:
        return None
    away = np.roll(masks, (height // 2, width // 2), axis=(1, 2))
    lost = []
    for mask in (masks, away):
        filled = impute(subject.normalized(subject.images[chosen]), mask)
        lost.append(subject.answers(filled).argmax(1) != target)
    return float(lost[0].mean() - lost[1].mean())
