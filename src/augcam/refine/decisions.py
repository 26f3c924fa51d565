"""What the loop decides, and by which test: classes that are hurt, and whether sparing them helps.

Every stage is one family of comparisons, corrected as such. The study's validation images choose the
classes; fresh networks confirm on validation images that are partly the study's; the test set, which no
stage has met, is for one look at the one that is chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from augcam.errors import UserError
from augcam.report.class_changes import ClassDifferences
from augcam.statistics import LEVEL
from augcam.statistics.comparisons import Differences, Rates, difference_of_counts
from augcam.statistics.families import holm

LEAST_SEEDS = 3  # of each group: two runs tell next to nothing of a spread

Arm = Literal["spared", "pipeline", "baseline"]

Counts = tuple[np.ndarray, np.ndarray]  # right ones and all images, int (runs, classes) each


@dataclass(frozen=True)
class Comparison:
    """Accuracy of the pipeline that spares classes, less that of another.

    Attributes:
        images: `spared`, of the spared classes, or `all`.
        against: the other: `pipeline`, the same without sparing, or `baseline`.
        mean: 0..1. low, high: an interval. Those of the first comparison hold at once for all
            candidates in 95% of studies, and so do those of the other three.
        p: adjusted for the family.
        verdict: better, worse, or tie.
    """

    images: Literal["spared", "all"]
    against: Literal["pipeline", "baseline"]
    mean: float
    low: float
    high: float
    p: float
    verdict: Literal["better", "worse", "tie"]


def validation_counts(metrics: Sequence[Mapping[str, Any]]) -> Counts:
    """Right and all validation images of each class, of runs by the content of their metrics.json.

    Raises:
        UserError: a run validated nothing, or its counts are no numbers of images.
    """
    tables = [(one.get("val") or {}).get("confusion") for one in metrics]
    if not all(tables):
        raise UserError(
            "a run has no validation: class by class is decided on validation images, so train with "
            "data.holdout above 0"
        )
    if max(entry for table in tables for row in table or () for entry in row) > 10**9:
        raise UserError("a run has over 10^9 validation images, by its metrics.json")
    confusion = np.array(tables, np.int64)
    return np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2)


def class_differences(
    groups: Mapping[str, Counts], baseline: str, classes: Sequence[str]
) -> ClassDifferences:
    """Every class under every other group against the baseline; one family, Benjamini and Hochberg."""
    others = tuple(name for name in groups if name != baseline)
    compared = [difference_of_counts(groups[name], groups[baseline]) for name in others]
    return ClassDifferences.of(others, classes, compared)


@dataclass(frozen=True)
class Arms:
    """What a confirmation compares: counts of fresh runs on validation, and labels of what is spared."""

    spared: Counts
    pipeline: Counts
    baseline: Counts
    labels: Sequence[int]


def confirmation(candidates: Mapping[str, Arms]) -> dict[str, list[Comparison]]:
    """Each candidate against its pipeline and the baseline, on spared classes and on all: one family."""
    raw = []
    for arms in candidates.values():
        for labels in (list(arms.labels), None):
            own = _pooled(arms.spared, labels)
            raw += [difference_of_counts(own, _pooled(o, labels)) for o in _others(arms)]
    return dict(zip(candidates, _judged(raw), strict=True))


def _others(arms: Arms) -> tuple[Counts, Counts]:
    return arms.pipeline, arms.baseline


def _pooled(counts: Counts, labels: list[int] | None) -> Counts:
    """The classes as one stratum: (runs, 1) each."""
    hits, images = (part if labels is None else part[:, labels] for part in counts)
    return hits.sum(1, keepdims=True), images.sum(1, keepdims=True)


def look_at_test(
    correct: Mapping[Arm, np.ndarray],
    label: np.ndarray,
    labels: Sequence[int],
) -> list[Comparison]:
    """The one look: the same four comparisons on the test set, image by image.

    Args:
        correct: bool (runs, N), each run's right answers on the same images.
        label: int (N,). labels: those of the spared classes.
    """
    raw = []
    for mask in (np.isin(label, labels), np.ones(len(label), bool)):
        rates = Rates({str(name): hits[:, mask] for name, hits in correct.items()})
        raw += [rates.difference("spared", other) for other in ("pipeline", "baseline")]
    return _judged(raw)[0]


def helps(comparisons: Sequence[Comparison]) -> bool:
    """Whether sparing helps: the spared classes are better than before, and all together not worse."""
    own, all_images = (
        next(c for c in comparisons if (c.images, c.against) == (images, "pipeline"))
        for images in ("spared", "all")
    )
    return own.verdict == "better" and all_images.verdict != "worse"


def _judged(raw: Sequence[Differences]) -> list[list[Comparison]]:
    """Verdicts by fours, as `confirmation` and `look_at_test` put them; 5% for all of them together.

    The first of four is the question, whether the spared classes are better than before. The others are
    asked only where it is answered, so they cost it nothing (a fixed sequence; Westfall and Krishen, J.
    Statist. Plan. Inference 99, 2001): a Holm of their own, and no p below the first's. Several
    candidates share the 5% alike (Bonferroni).
    """
    candidates = len(raw) // 4
    judged = []
    for number in range(candidates):
        four = raw[4 * number : 4 * number + 4]
        p = np.array([float(one.p[0]) for one in four])
        ordered = np.maximum(p[0], np.concatenate([p[:1], holm(p[1:])]))
        adjusted = np.minimum(candidates * ordered, 1)
        judged.append(
            [
                # The first's is that of its test, so it leaves out 0 where there is a verdict.
                _comparison(place, one, float(own), LEVEL / candidates / (3 if place else 1))
                for place, (one, own) in enumerate(zip(four, adjusted, strict=True))
            ]
        )
    return judged


def _comparison(place: int, one: Differences, p: float, level: float) -> Comparison:
    mean, half = float(one.mean[0]), float(one.half_width(level)[0])
    return Comparison(
        "spared" if place < 2 else "all",
        "pipeline" if place % 2 == 0 else "baseline",
        mean,
        mean - half,
        mean + half,
        p,
        "tie" if not p < LEVEL else "better" if mean > 0 else "worse",
    )
