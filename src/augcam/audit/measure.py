"""All evidence on one network, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import albumentations as A
import numpy as np
from torch import nn

from augcam.audit.clusters import Cluster, clusters
from augcam.audit.interventions import (
    DONORS,
    LEAST_CARRIERS,
    Patch,
    Region,
    drop_when_covered,
    find_patch,
)
from augcam.audit.maps import EvidenceMaps, evidence_maps, randomised_maps
from augcam.audit.nuisance import PROPERTIES, follow, giving_away
from augcam.audit.places import Placement, placements
from augcam.audit.stability import Stability, stabilities
from augcam.audit.subject import IMAGES_NEEDED, Progress, Subject
from augcam.audit.verdict import Decision, PropertyEffect, Verdict, decide
from augcam.data.datasets.base import ImageSet
from augcam.data.splits import in_proportion
from augcam.errors import UserError
from augcam.statistics import LEVEL
from augcam.statistics.families import holm

# A map that is so near, in cosine, to the transformed one has moved with its image.
_FOLLOWS = 0.8

# A property is tried where at most so many relabellings of the images give the class away as well. A
# screen, not a test: what the interventions find is corrected.
_GIVEN_AWAY = 0.01


@dataclass(frozen=True)
class ClassAudit:
    """The verdict on one class, and what it rests on.

    Attributes:
        name: of the class.
        verdict: "no_sign", "look", "context", "shortcut" or "undecided".
        reason: in words.
        images: of the class.
        patch: the part that carries the class, where the verdict rests on one.
        found: the property, where it rests on one.
        drop: share of the class's images lost without it, of a part beyond a control; None if not
            measured.
        p: after Holm over all classes and interventions.
        evidence: mean share of the maps' evidence in the named region, over the class's images.
        clusters: of the class's maps, the largest first; empty where too few have positive evidence.
        placement: where the maps lie beside those of other classes and of randomised networks.
        stability: how far the maps follow each geometric transform of the training pipeline.
        on_object: mean share of the maps' evidence on the object; None where there are no masks.
    """

    name: str
    verdict: Verdict
    reason: str
    images: int
    patch: Patch | None = None
    found: PropertyEffect | None = None
    drop: float | None = None
    p: float = 1.0
    evidence: float | None = None
    clusters: tuple[Cluster, ...] = ()
    placement: Placement | None = None
    on_object: float | None = None
    stability: Mapping[str, Stability] = field(default_factory=dict)

    @property
    def unstable(self) -> list[str]:
        """The transforms under which the maps do not move with the images.

        Maps that all lie at one place are as near to another image's as to their own, and follow.
        """
        return [n for n, one in self.stability.items() if one.p >= LEVEL and one.cosine < _FOLLOWS]

    def to_json(self) -> dict[str, Any]:
        """As audit.json has it; keys may be added, never changed."""
        cause = self.patch or self.found
        region = self.patch.region if self.patch else None
        return {
            "verdict": self.verdict,
            "region": list(region.box) if region else None,
            "property": self.found.name if self.found else None,
            "follow_rate": cause.effect.follow_rate if cause else None,
            "drop": self.drop,
            "p": self.p,
            "images": self.images,
            "control_rate": cause.effect.control_rate if cause else None,
            "moves": bool(self.patch and not self.patch.fixed),
            "found_in": self.patch.share if self.patch else None,
            "reason": self.reason,
            "evidence": self.evidence,
            "on_object": self.on_object,
            "clusters": [
                {
                    "images": len(one.members),
                    "share": one.share,
                    "accuracy": one.accuracy,
                    "region": list(one.region.box),
                }
                for one in self.clusters
            ],
            "stability": {name: asdict(one) for name, one in self.stability.items()},
            "placement": asdict(self.placement) if self.placement else None,
        }


@dataclass(frozen=True)
class Audit:
    """The verdicts on all classes.

    Attributes:
        classes: in the order of the labels.
        subject: the network and its images.
        settings: what it depends on.
        numbers: int (N,), of the subject's images in the data set that was given.
        maps: of all its images; None where it has no layer with a map, or has learnt nothing.
    """

    classes: tuple[ClassAudit, ...]
    subject: Subject
    settings: dict[str, Any]
    numbers: np.ndarray
    maps: EvidenceMaps | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of audit.json."""
        return {
            "classes": {one.name: one.to_json() for one in self.classes},
            "settings": self.settings,
        }


def audit(
    network: nn.Module,
    dataset: ImageSet,
    *,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
    images: int | None = None,
    transforms: Mapping[str, A.DualTransform] | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Ask of every class whether the network goes by the object or by what merely comes with it.

    Args:
        network: (B, 3, H, W) normalized to logits (B, C), in evaluation mode.
        dataset: images uint8 (N, H, W, 3) of the source that the network was trained on, but that it
            was not trained on; with masks where they are known.
        class_names: C.
        mean, std: of each channel, 0..1, of the network's normalization.
        seed: of every random choice.
        transforms: geometric ones of the training pipeline, by name, under which the maps are to move.
        images: so many of the images, of each class in proportion; all where None.
        progress: called with the number of images that have gone through the network since.

    Raises:
        UserError: images that are not uint8, masks that do not fit them, labels that have no name, or
            NaN logits.
    """
    dataset = _checked(dataset, class_names)
    # Shuffled: of images sorted by class the first that a network takes for a class are its errors.
    numbers = _shuffled(dataset.labels, images or len(dataset), seed)
    dataset = dataset.subset(numbers)
    pixels = np.asarray(dataset.images[:])
    if pixels.dtype != np.uint8:
        raise UserError(f"images of {pixels.dtype}: uint8 is needed, 0 to 255")
    subject = Subject(
        network,
        pixels,
        dataset.labels,
        dataset.masks,
        tuple(class_names),
        mean,
        std,
        progress=progress,
    )
    counts = np.bincount(subject.labels, minlength=len(class_names))
    settings: dict[str, Any] = {
        "seed": seed,
        "images": len(subject.images),
        "accuracy": float((subject.predicted == subject.labels).mean()),
        "masks": subject.masks is not None,
        "learnt": subject.has_learnt(),
    }
    if not settings["learnt"]:
        reason = (
            f"accuracy {settings['accuracy']:.0%}, no better than these answers in any other order: a "
            "network that has learnt nothing has no evidence to look at"
        )
        undecided = tuple(
            ClassAudit(name, "undecided", reason, int(n))
            for name, n in zip(class_names, counts, strict=True)
        )
        return Audit(undecided, subject, settings, numbers)

    refusals = {c: _too_few(subject, c) for c in range(len(class_names))}
    audited = [c for c, refusal in refusals.items() if not refusal]
    maps = evidence_maps(subject)
    settings["layer"] = maps.layer if maps else None
    settings["maps_without_evidence"] = int((~maps.usable).sum()) if maps else None
    ways: dict[int, list[Cluster]] = {c: [] for c in audited}
    placed: dict[int, Placement] = {}
    if maps is not None and audited:
        untrained = randomised_maps(subject, maps.layer, audited, seed)
        placed = placements(maps, subject.predicted, audited, seed, untrained)
        ways = {c: _clusters(subject, maps, c) for c in audited}
    moves: dict[int, dict[str, Stability]] = {}
    if maps is not None and transforms:
        moves = stabilities(subject, maps, transforms, audited, seed)
    patches = {c: _patch(subject, c, ways[c], seed) for c in audited}
    properties = _properties(subject, audited, seed)
    adjusted = _adjusted(patches, properties)
    result = []
    for c, name in enumerate(class_names):
        if refusals[c]:
            result.append(ClassAudit(name, "undecided", refusals[c], int(counts[c])))
            continue
        decision = decide(
            patches[c],
            adjusted[c, ""],
            [(one, adjusted[c, one.name]) for one in properties[c]],
            placed.get(c),
            _on_object(subject, patches[c]),
        )
        described = _described(subject, c, name, int(counts[c]), decision, seed)
        region = described.patch.region if described.patch else None
        result.append(
            replace(
                described,
                evidence=_evidence(subject, maps, c, region) if maps and region else None,
                clusters=tuple(ways[c]),
                placement=placed.get(c),
                stability=moves.get(c, {}),
                on_object=_evidence_on_object(subject, maps, c) if maps else None,
            )
        )
    settings["network_inputs"] = subject.asked
    return Audit(tuple(result), subject, settings, numbers, maps)


def _clusters(subject: Subject, maps: EvidenceMaps, c: int) -> list[Cluster]:
    return clusters(maps, _split(subject, c)[0], subject.predicted == subject.labels)


def _patch(subject: Subject, c: int, ways: Sequence[Cluster], seed: int) -> Patch | None:
    """The part that carries the class, sought where its maps point and elsewhere."""
    random = np.random.default_rng([seed, 1, c])
    own, others = _split(subject, c)
    donors = random.permutation(own)[:DONORS]
    return find_patch(subject, c, donors, others, [one.region for one in ways], random)


def _properties(
    subject: Subject, audited: Sequence[int], seed: int
) -> dict[int, list[PropertyEffect]]:
    """What each class's properties move, of those that give it away: no others can be learnt."""
    found: dict[int, list[PropertyEffect]] = {c: [] for c in audited}
    for number, name in enumerate(PROPERTIES):
        away = giving_away(subject, name, seed)
        for c in audited:
            if away[c].p > _GIVEN_AWAY or len(away[c].donors) < LEAST_CARRIERS:
                continue
            random = np.random.default_rng([seed, 2, c, number])
            moved, drop = follow(subject, c, name, away[c].donors, _split(subject, c)[1], random)
            found[c].append(PropertyEffect(name, away[c], moved, drop))
    return found


def _adjusted(
    patches: Mapping[int, Patch | None], properties: Mapping[int, Sequence[PropertyEffect]]
) -> dict[tuple[int, str], float]:
    """The p of each class's part (under "") and of its properties, Holm's over all of them."""
    raw: dict[tuple[int, str], float] = {}
    for c, patch in patches.items():
        raw[c, ""] = patch.effect.p if patch else 1.0
        raw |= {(c, one.name): one.effect.p for one in properties[c]}
    return dict(zip(raw, holm(list(raw.values())).tolist(), strict=True))


def _on_object(subject: Subject, patch: Patch | None) -> float | None:
    """The share of a patch that lies on the object, mean over its carriers."""
    if subject.masks is None or patch is None:
        return None
    return float(
        np.mean(
            [
                subject.masks[i][place.mask(subject.size)].mean()
                for i, place in zip(patch.carriers.tolist(), patch.regions, strict=True)
            ]
        )
    )


def _evidence_on_object(subject: Subject, maps: EvidenceMaps, c: int) -> float | None:
    own = _split(subject, c)[0]
    own = own[maps.usable[own]]
    if subject.masks is None or not len(own):
        return None
    return float(maps.mass(own, subject.masks[own]).mean())


def _evidence(subject: Subject, maps: EvidenceMaps, c: int, region: Region) -> float | None:
    own = _split(subject, c)[0]
    own = own[maps.usable[own]]
    if not len(own):
        return None
    return float(maps.mass(own, region.mask(subject.size)[None]).mean())


def _described(
    subject: Subject, c: int, name: str, count: int, decision: Decision, seed: int
) -> ClassAudit:
    drop = decision.found.drop if decision.found else None
    if decision.patch is not None:
        random = np.random.default_rng([seed, 3, c])
        drop = drop_when_covered(subject, c, decision.patch, _split(subject, c)[0], random)
    return ClassAudit(
        name,
        decision.verdict,
        decision.reason,
        count,
        decision.patch,
        decision.found,
        drop,
        decision.p,
    )


def _split(subject: Subject, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images that the network assigns to the class, and of those of other classes."""
    own = subject.predicted == c
    return np.flatnonzero(own), np.flatnonzero(~own & (subject.labels != c))


def _too_few(subject: Subject, c: int) -> str:
    own, others = _split(subject, c)
    there = int((subject.labels == c).sum())
    if there < IMAGES_NEEDED:
        return f"{there} images of the class: at least {IMAGES_NEEDED} are needed"
    if len(own) < IMAGES_NEEDED:
        return (
            f"the network names the class for {len(own)} images: at least {IMAGES_NEEDED} are needed "
            "to see by what it knows it"
        )
    if len(others) < IMAGES_NEEDED:
        return f"{len(others)} images of other classes: at least {IMAGES_NEEDED} are needed"
    return ""


def _checked(dataset: ImageSet, class_names: Sequence[str]) -> ImageSet:
    shape = tuple(dataset.images.shape)
    if len(shape) != 4 or shape[3] != 3 or shape[0] == 0:
        raise UserError(f"images of the shape {shape}: (N, H, W, 3) is needed, N at least 1")
    if len(dataset.labels) != shape[0]:
        raise UserError(f"{len(dataset.labels)} labels for {shape[0]} images")
    if dataset.labels.min() < 0 or dataset.labels.max() >= len(class_names):
        raise UserError(
            f"labels {dataset.labels.min()} to {dataset.labels.max()}: {len(class_names)} classes have "
            "names"
        )
    if dataset.masks is not None and dataset.masks.shape != shape[:3]:
        raise UserError(
            f"masks of the shape {dataset.masks.shape} do not fit images of the shape {shape}: one of "
            "the image's height and width is needed for each"
        )
    return dataset


def _shuffled(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The numbers of `n` images at most, of each class in proportion, in random order: int64."""
    random = np.random.default_rng(seed)
    return random.permutation(in_proportion(labels, n, random))
