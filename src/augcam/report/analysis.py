"""What the comparison of a study found: shared by all parts of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augcam.report import charts as figures
from augcam.report import statistics
from augcam.report.load import Run, Study
from augcam.report.statistics import ClassDifferences, Difference, Estimate


@dataclass(frozen=True)
class GroupResult:
    """A group in the ranking, with its means over runs, accuracies in 0..1.

    What its runs did not measure is None; so is the baseline's own difference. `epoch_seconds` is the
    wall time of the fastest epoch of them all.
    """

    label: str
    runs: tuple[Run, ...]
    test: Estimate
    val: Estimate | None
    ece: Estimate | None
    epoch_seconds: float | None
    difference: Difference | None


@dataclass(frozen=True)
class Findings:
    """A study with what its sections share.

    Attributes:
        standings: best test accuracy first.
        lead: of the first over each of the others.
        per_class: None without a baseline, or without anything beside it.
        styles: colour and dash of each group.
        corruption_errors: mCE of each group that has one.
        figures: the folder that pictures are written into.
    """

    study: Study
    standings: tuple[GroupResult, ...]
    lead: dict[str, Difference]
    per_class: ClassDifferences | None
    corruption_errors: dict[str, Estimate]
    styles: dict[str, figures.Style]
    figures: Path

    @property
    def others(self) -> list[GroupResult]:
        """Every group but the baseline."""
        return [s for s in self.standings if s.label != self.study.baseline]

    @property
    def test_images(self) -> int:
        """How many images every run was tested on."""
        predictions = self.standings[0].runs[0].predictions
        assert predictions is not None
        return len(predictions.label)

    def standing(self, label: str) -> GroupResult:
        """The group of this label."""
        return next(s for s in self.standings if s.label == label)


def find(study: Study, folder: Path) -> Findings:
    """Rank the groups and compare them with the baseline."""
    base = study.groups[study.baseline] if study.baseline else None
    standings = []
    for label, runs in study.groups.items():
        standings.append(
            GroupResult(
                label,
                runs,
                statistics.mean_interval([run.metrics["test"]["accuracy"] for run in runs]),
                _mean(runs, "val", "accuracy"),
                _mean(runs, "test", "ece"),
                min((s for run in runs for s in _epoch_seconds(run)), default=None),
                statistics.paired_difference(runs, base)
                if base and label != study.baseline
                else None,
            )
        )
    errors = {label: statistics.corruption_error(study, label) for label in study.groups}
    several = study.baseline is not None and len(study.groups) > 1
    standings.sort(key=lambda s: -s.test.mean)
    return Findings(
        study,
        tuple(standings),
        {s.label: statistics.paired_difference(standings[0].runs, s.runs) for s in standings[1:]},
        statistics.class_differences(study) if several else None,
        {label: e for label, e in errors.items() if e is not None and not np.isnan(e.mean)},
        figures.group_styles(study.groups, study.baseline),
        folder,
    )


def _mean(runs: Sequence[Run], split: str, key: str) -> Estimate | None:
    values = [(run.metrics.get(split) or {}).get(key) for run in runs]
    known = [value for value in values if value is not None]
    return statistics.mean_interval(known) if known else None


def _epoch_seconds(run: Run) -> list[float]:
    """Each epoch's wall time. What else a machine does can only add to it: the least tells most."""
    ends = [float(row.get("wall_seconds", "nan")) for row in run.metrics.get("history") or []]
    return [seconds for seconds in np.diff(ends, prepend=0.0).tolist() if seconds > 0]
