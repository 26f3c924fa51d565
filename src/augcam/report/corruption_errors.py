"""Errors under corruption, relative to the baseline's: mCE, and what of it stands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augcam.data.cifar10c import EXTRA
from augcam.report.load import Run, Study
from augcam.statistics import LEVEL
from augcam.statistics.comparisons import difference_of_means
from augcam.statistics.families import best_of_all, holm
from augcam.statistics.intervals import Estimate, mean_interval

TRAINED = ("shift", "rotation")
"""Corruptions that augmentations of this very kind (crop, rotate) train on: they flatter those."""


@dataclass(frozen=True)
class CorruptionSet:
    """What an evaluation's networks met.

    Attributes:
        title: as pages name it.
        key: of evaluation.json, where its record stands; "" is evaluation.json itself.
        aside: corruptions that the verdicts leave out.
    """

    title: str
    key: str
    aside: tuple[str, ...]

    def record(self, run: Run) -> dict[str, Any] | None:
        """What was measured of a run: "corruptions" has the accuracies at each severity."""
        record: dict[str, Any] | None = run.evaluation
        return record.get(self.key) if record and self.key else record


OWN = CorruptionSet("AugCAM's corruptions", "", TRAINED)
OFFICIAL = CorruptionSet("CIFAR-10-C", "cifar10c", EXTRA)


@dataclass(frozen=True)
class CorruptionErrors:
    """mCE of every evaluated group, in per cent of the baseline's; 100 is the baseline's own.

    Attributes:
        all: over all corruptions. counted: without those set aside; what follows is about this one.
        fewer, more: groups that differ from the baseline, in the order of their mCE.
        fewest: the group that makes fewer errors than every other, or None where none does.
        tested: whether every group has the two runs that a test needs.

    `fewer`, `more` and `fewest` are one family (Holm): in all but 5% of pages none of them is wrong.
    They count the seeds, on these very images.
    """

    all: dict[str, Estimate]
    counted: dict[str, Estimate]
    fewer: tuple[str, ...]
    more: tuple[str, ...]
    fewest: str | None
    tested: bool


def mean_corruption_error(
    evaluation: Mapping[str, Any], baseline: Mapping[str, Any], without: Sequence[str] = ()
) -> float:
    """mCE of one evaluation against another's, in per cent; the baseline's own is 100.

    For each corruption the errors summed over severities, over the baseline's; the mean of these
    ratios (Hendrycks, Dietterich, arXiv 1903.12261, section 4.1; their baseline is AlexNet). Over the
    corruptions that both have and where the baseline errs at all; NaN if there is none.

    Args:
        without: corruptions to leave out.
    """
    ours, base = evaluation["corruptions"], baseline["corruptions"]
    errors = [
        (sum(1 - a for a in ours[name]), sum(1 - a for a in base[name]))
        for name in base
        if name in ours and name not in without
    ]
    ratios = [own / reference for own, reference in errors if reference > 0]
    return 100 * float(np.mean(ratios)) if ratios else math.nan


def corruption_errors(study: Study, kind: CorruptionSet = OWN) -> CorruptionErrors | None:
    """mCE of every evaluated group, against the mean accuracies of the baseline's runs.

    None without a baseline that was evaluated on these. An interval is that of the row's own runs.
    """
    records = {
        label: [record for run in runs if (record := kind.record(run))]
        for label, runs in study.groups.items()
    }
    records = {label: several for label, several in records.items() if several}
    if study.baseline not in records:
        return None
    base = records[study.baseline]
    names = [n for n in base[0]["corruptions"] if all(n in e["corruptions"] for e in base)]
    average = {
        "corruptions": {n: np.mean([e["corruptions"][n] for e in base], axis=0) for n in names}
    }

    def values(without: Sequence[str] = ()) -> dict[str, list[float]]:
        of = {
            label: [mean_corruption_error(e, average, without) for e in several]
            for label, several in records.items()
        }
        return {label: v for label, v in of.items() if np.isfinite(v).all()}

    counted = values(kind.aside)
    if study.baseline not in counted:
        return None
    return CorruptionErrors(
        {label: mean_interval(v) for label, v in values().items()},
        {label: mean_interval(v) for label, v in counted.items()},
        *_verdicts(counted, study.baseline),
    )


def _verdicts(
    values: Mapping[str, Sequence[float]], baseline: str
) -> tuple[tuple[str, ...], tuple[str, ...], str | None, bool]:
    order = sorted(values, key=lambda label: float(np.mean(values[label])))
    others = [label for label in order if label != baseline]
    if not others:
        return (), (), None, False
    against_base = [difference_of_means(values[label], values[baseline]) for label in others]
    lead = [float(difference_of_means(values[order[0]], values[label]).p) for label in order[1:]]
    family = [float(difference.p) for difference in against_base]
    if len(order) > 2:  # of two groups the one comparison says it
        family.append(best_of_all(lead))
    adjusted = holm(family)
    best = float(adjusted[-1])
    clear = [
        (label, float(d.mean))
        for label, d, p in zip(others, against_base, adjusted, strict=False)
        if p < LEVEL
    ]
    return (
        tuple(label for label, mean in clear if mean < 0),
        tuple(label for label, mean in clear if mean > 0),
        order[0] if best < LEVEL else None,
        not np.isnan(best),
    )
