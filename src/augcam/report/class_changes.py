"""Class by class, and pair by pair: which of many differences from the baseline stand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from augcam.errors import UserError
from augcam.report.load import Predictions, Run, Study
from augcam.statistics import LEVEL
from augcam.statistics.comparisons import Differences, Rates
from augcam.statistics.families import benjamini_hochberg


@dataclass(frozen=True)
class ClassDifferences:
    """Class by class, every group but the baseline against it: arrays (groups, classes), in 0..1.

    Attributes:
        groups, classes: names of rows and columns.
        mean: difference of the class's mean accuracy; NaN for a class without images.
        half_width: of the 95% interval of each cell by itself. p: two-sided, of each cell by itself.
            NaN where the group or the baseline has a single run, or a class too few images.
        clear: bool, differs from 0 after Benjamini-Hochberg over all cells.
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    mean: np.ndarray
    half_width: np.ndarray
    p: np.ndarray
    clear: np.ndarray

    @classmethod
    def of(
        cls, groups: Sequence[str], classes: Sequence[str], compared: Sequence[Differences]
    ) -> "ClassDifferences":
        """From each group's differences, (classes,) each; one family, Benjamini and Hochberg."""
        shape = len(groups), len(classes)
        mean, half_width, p = (
            np.array(values).reshape(shape)
            for values in (
                [row.mean for row in compared],
                [row.half_width() for row in compared],
                [row.p for row in compared],
            )
        )
        return cls(tuple(groups), tuple(classes), mean, half_width, p, benjamini_hochberg(p))

    @property
    def hurt(self) -> dict[str, tuple[str, ...]]:
        """By group the classes that it clearly hurts; groups that hurt none are missing."""
        found = self.clear & (self.mean < 0)
        return {
            group: tuple(name for name, one in zip(self.classes, row, strict=True) if one)
            for group, row in zip(self.groups, found, strict=True)
            if row.any()
        }

    @property
    def tested(self) -> bool:
        """Whether any cell has a test: whether the baseline and another group have two runs."""
        return not np.isnan(self.p).all()


@dataclass(frozen=True)
class ConfusionChange:
    """How often `true` is taken for `predicted`, per 1,000 images of `true`, mean over runs.

    Attributes:
        baseline, group: the two rates; change: group minus baseline.
        low, high: 95% interval of the change by itself; None where either has a single run.
        clear: differs from 0 after Benjamini-Hochberg over all pairs of classes of all groups.
    """

    true: str
    predicted: str
    baseline: float
    group: float
    change: float
    low: float | None
    high: float | None
    clear: bool


def predictions_of(run: Run) -> Predictions:
    """The predictions of a run that is in a group: every such run has them."""
    assert run.predictions is not None, f"{run.folder} is in a group without predictions"
    return run.predictions


def class_differences(study: Study) -> ClassDifferences:
    """Every class under every other group against the baseline.

    Raises:
        UserError: the study has no baseline.
    """
    baseline = _baseline(study)
    label = predictions_of(study.groups[baseline][0]).label
    correct = {
        name: np.stack([predictions_of(run).correct for run in runs])
        for name, runs in study.groups.items()
    }
    rates = Rates(correct, label, len(study.classes))
    others = tuple(name for name in study.groups if name != baseline)
    compared = [rates.difference(name, baseline) for name in others]
    return ClassDifferences.of(others, study.classes, compared)


def confusion_changes(study: Study, top: int = 5) -> dict[str, list[ConfusionChange]]:
    """Of each other group the pairs of classes whose confusion changed most, largest change first.

    Raises:
        UserError: the study has no baseline.
    """
    baseline = _baseline(study)
    true = predictions_of(study.groups[baseline][0]).label
    answers = {
        name: np.stack([predictions_of(run).predicted for run in runs])
        for name, runs in study.groups.items()
    }
    others = [name for name in study.groups if name != baseline]
    count = len(study.classes)
    before = np.full((count, count), math.nan)
    now, mean, half, p = (np.full((len(others), count, count), math.nan) for _ in range(4))
    for predicted in range(count):
        rates = Rates({n: rows == predicted for n, rows in answers.items()}, true, count)
        before[:, predicted] = rates.rate(baseline)
        for row, name in enumerate(others):
            difference = rates.difference(name, baseline)
            now[row, :, predicted] = rates.rate(name)
            mean[row, :, predicted] = difference.mean
            half[row, :, predicted] = difference.half_width()
            p[row, :, predicted] = difference.p
    for cells in (mean, p):
        np.einsum("rkk->rk", cells)[:] = math.nan  # right answers are no confusion
    clear = benjamini_hochberg(p, LEVEL)
    return {
        name: [
            ConfusionChange(
                study.classes[i],
                study.classes[j],
                float(1000 * before[i, j]),
                float(1000 * now[row, i, j]),
                float(1000 * mean[row, i, j]),
                *_ends(1000 * mean[row, i, j], 1000 * half[row, i, j]),
                bool(clear[row, i, j]),
            )
            for i, j in _largest(mean[row], top)
        ]
        for row, name in enumerate(others)
    }


def _baseline(study: Study) -> str:
    if study.baseline is None:
        raise UserError("nothing to compare with: the study has no baseline")
    return study.baseline


def _largest(change: np.ndarray, top: int) -> list[tuple[int, int]]:
    """Places of the largest changes that are any, (classes, classes)."""
    size = np.nan_to_num(np.abs(change), nan=0.0)
    order = np.argsort(-size, axis=None, kind="stable")[:top]
    return [
        (int(i), int(j)) for i, j in (divmod(flat, len(change)) for flat in order) if size[i, j] > 0
    ]


def _ends(mean: float, half: float) -> tuple[float | None, float | None]:
    return (None, None) if math.isnan(half) else (float(mean - half), float(mean + half))
