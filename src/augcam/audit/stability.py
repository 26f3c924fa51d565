"""Does the map move with the image? If not, it is no evidence of where the network looks.

A geometric transform of the training pipeline changes no class: the map of the transformed image should
be the transformed map (equivariance, measured by cosine similarity as in Crabbé, van der Schaar,
"Evaluating the robustness of interpretability methods through explanation invariance and equivariance",
arXiv 2304.08984). As control stands the transformed map of another image of the class: what all maps of
a class share, a bright middle for one, needs no image to be right.
"""

import random as python_random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import albumentations as A
import numpy as np
from albumentations.augmentations.dropout.transforms import BaseDropout
from scipy import stats

from augcam.audit.maps import EvidenceMaps, maps_of
from augcam.audit.subject import Subject
from augcam.data.augment.ops import AlternatingFlip

# Images of a class that are transformed; below the least, nothing is said.
_IMAGES = 24
_LEAST = 12


@dataclass(frozen=True)
class Stability:
    """How far a class's maps follow one transform.

    Attributes:
        cosine: median over images, of the transformed image's map with the transformed map.
        control: the same with the transformed map of another image of the class.
        p: of "no more alike than the control", Wilcoxon's signed-rank test. Not corrected: it is the
            lack of a difference that is named.
        images: of the class.
    """

    cosine: float
    control: float
    p: float
    images: int


def geometric(transforms: Mapping[str, Any]) -> dict[str, A.DualTransform]:
    """Those that move pixels, and a map as the image; an alternating flip always mirrors here."""
    return {
        name: A.HorizontalFlip(p=1) if isinstance(one, AlternatingFlip) else one
        for name, one in transforms.items()
        if isinstance(one, A.DualTransform) and not isinstance(one, BaseDropout)
    }


def stabilities(
    subject: Subject,
    maps: EvidenceMaps,
    transforms: Mapping[str, A.DualTransform],
    audited: list[int],
    seed: int,
) -> dict[int, dict[str, Stability]]:
    """For each class and transform; classes with fewer than 12 usable maps are left out."""
    chosen = {c: np.flatnonzero((subject.predicted == c) & maps.usable)[:_IMAGES] for c in audited}
    chosen = {c: which for c, which in chosen.items() if len(which) >= _LEAST}
    found: dict[int, dict[str, Stability]] = {c: {} for c in chosen}
    for name, transform in transforms.items():
        transform.set_random_state(np.random.default_rng([seed, 5]), python_random.Random(seed))
        for c, which in chosen.items():
            moved, own, other = _moved(subject, maps, transform, which)
            new = maps_of(subject, moved, np.full(len(which), c), maps.layer)
            after = new.density(np.arange(len(which)))
            same, control = _cosine(after, own), _cosine(after, other)
            test = stats.wilcoxon(same, control, alternative="greater", zero_method="zsplit")
            found[c][name] = Stability(
                float(np.median(same)), float(np.median(control)), float(test.pvalue), len(which)
            )
    return found


def _moved(
    subject: Subject, maps: EvidenceMaps, transform: A.DualTransform, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each image, its map and the next image's map, all three transformed alike."""
    density = maps.density(which)
    moved, own, other = [], [], []
    for i, image in enumerate(subject.images[which]):
        both = np.stack([density[i], density[i - 1]], axis=-1)
        result = transform(force_apply=True, image=image, mask=both)
        moved.append(result["image"])
        own.append(result["mask"][..., 0])
        other.append(result["mask"][..., 1])
    return np.stack(moved), np.stack(own), np.stack(other)


def _cosine(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Of maps (B, H, W) in pairs: (B,); 0 where a map is empty."""
    flat = one.reshape(len(one), -1), two.reshape(len(two), -1)
    norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
    cosine: np.ndarray = (flat[0] * flat[1]).sum(1) / np.maximum(norms, 1e-12)
    return cosine
