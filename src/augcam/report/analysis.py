"""What the comparison of a study shows: shared by all parts of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from augcam.metrics import METRICS
from augcam.report import charts as figures
from augcam.report.class_changes import ClassDifferences, class_differences, predictions_of
from augcam.report.corruption_errors import OFFICIAL, CorruptionErrors, corruption_errors
from augcam.report.load import Run, Study
from augcam.report.value_curves import ValueCurve, value_curves
from augcam.statistics import LEVEL
from augcam.statistics.comparisons import Rates, mcnemar, unequal_spread
from augcam.statistics.families import best_of_all, holm
from augcam.statistics.intervals import Estimate, mean_interval

Verdict = Literal["better", "worse", "tie"]


@dataclass(frozen=True)
class McNemar:
    """One pair of runs with equal seed: images that only the one or only the other has right.

    Attributes:
        b: right under the baseline alone. c: right in this group alone. p: exact, two-sided.
    """

    seed: int
    b: int
    c: int
    p: float


@dataclass(frozen=True)
class Difference:
    """Test accuracy of one group minus another's, in 0..1.

    Attributes:
        low, high: 95% interval, wide enough to hold for all comparisons of its family at once.
        p: adjusted for the family. All three None where either group has a single run.
        verdict: "better", "worse" or "tie"; None where there is no interval.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    verdict: Verdict | None


@dataclass(frozen=True)
class GroupResult:
    """A group in the ranking, with its means over runs, accuracies in 0..1.

    measures: every metric of `augcam.metrics` on the test set, by name, that its runs have. What else
    they did not measure is None; so is the baseline's own difference. `epoch_seconds` is the
    wall time of the fastest epoch of them all.
    """

    label: str
    runs: tuple[Run, ...]
    test: Estimate
    val: Estimate | None
    measures: dict[str, Estimate]
    epoch_seconds: float | None
    difference: Difference | None
    mcnemar: tuple[McNemar, ...]


@dataclass(frozen=True)
class Findings:
    """A study with what its sections share.

    Attributes:
        standings: best first, by test accuracy; of a search by validation.
        searched: whether the runs are trials of a search, which chose on validation: then the test set
            speaks of the chosen one alone, and nothing is compared on it.
        lead: of the first over the second, where the first is better than every other group.
        tied: groups that cannot be told from the first.
        unequal: whether the groups' accuracies spread unequally from seed to seed.
        per_class: None without a baseline, or without anything beside it.
        value_curves: empty where no number was varied, and of a search.
        corruption_errors, official_errors: under AugCAM's corruptions and on CIFAR-10-C; None where no
            baseline was evaluated on them.
        styles: colour and dash of each group.
        figures: the folder that pictures are written into.

    The baseline's comparisons and `lead` are one family: in all but 5% of pages none is wrong (Holm).
    """

    study: Study
    standings: tuple[GroupResult, ...]
    searched: bool
    lead: Difference | None
    tied: tuple[str, ...]
    unequal: bool
    per_class: ClassDifferences | None
    value_curves: tuple[ValueCurve, ...]
    corruption_errors: CorruptionErrors | None
    official_errors: CorruptionErrors | None
    styles: dict[str, figures.Style]
    figures: Path

    @property
    def others(self) -> list[GroupResult]:
        """Every group but the baseline."""
        return [s for s in self.standings if s.label != self.study.baseline]

    @property
    def test_images(self) -> int:
        """How many images every run was tested on."""
        return len(predictions_of(self.standings[0].runs[0]).label)

    @property
    def least_seeds(self) -> int:
        """Runs of the smallest group."""
        return min(len(s.runs) for s in self.standings)

    def standing(self, label: str) -> GroupResult:
        """The group of this label."""
        return next(s for s in self.standings if s.label == label)


def find(study: Study, folder: Path) -> Findings:
    """Rank the groups and compare them with the baseline and with the first."""
    searched = study.search
    score = {label: _score(runs, searched) for label, runs in study.groups.items()}
    order = sorted(study.groups, key=lambda label: -score[label])
    differences: dict[str, Difference] = {}
    lead: Difference | None = None
    tied: tuple[str, ...] = ()
    if not searched and len(order) > 1:
        differences, lead, tied = _compared(study, order)
    several = study.baseline is not None and len(order) > 1 and not searched
    return Findings(
        study,
        tuple(_standing(study, label, differences.get(label)) for label in order),
        searched,
        lead,
        tied,
        unequal_spread([_accuracies(runs) for runs in study.groups.values()]),
        class_differences(study) if several else None,
        () if searched else tuple(value_curves(study)),
        corruption_errors(study),
        corruption_errors(study, OFFICIAL),
        figures.group_styles(study.groups, study.baseline),
        folder,
    )


def _compared(
    study: Study, order: Sequence[str]
) -> tuple[dict[str, Difference], Difference | None, tuple[str, ...]]:
    """Every group against the baseline, the first over the second, and who is tied with the first."""
    rates = Rates(
        {
            label: np.stack([predictions_of(r).correct for r in study.groups[label]])
            for label in order
        }
    )
    pairs = {(one, two): rates.difference(one, two) for one, two in combinations(order, 2)}
    p = {pair: float(difference.p[0]) for pair, difference in pairs.items()}
    first, base = order[0], study.baseline
    against_base = {
        one if two == base else two: (one, two) for one, two in pairs if base in (one, two)
    }
    family = [p[pair] for pair in against_base.values()]
    if len(order) > 2 or not base:  # of two groups the one comparison says it
        family.append(best_of_all([p[first, label] for label in order[1:]]))
    adjusted = holm(family)
    differences = {}
    for (label, pair), own in zip(against_base.items(), adjusted, strict=False):
        sign = 1 if pair[0] == label else -1
        half = float(pairs[pair].half_width(LEVEL / len(family))[0])
        differences[label] = _difference(sign * float(pairs[pair].mean[0]), half, float(own))
    runner_up = pairs[first, order[1]]
    half = float(runner_up.half_width(LEVEL / len(family))[0])
    best = _difference(float(runner_up.mean[0]), half, float(adjusted[-1]))
    every = dict(zip(pairs, holm(list(p.values())), strict=True))
    tied = tuple(label for label in order[1:] if every[first, label] >= LEVEL)
    return differences, best if best.verdict == "better" else None, tied


def _difference(mean: float, half: float, p: float) -> Difference:
    if np.isnan(p):
        return Difference(mean, None, None, None, None)
    verdict: Verdict = "tie" if p >= LEVEL else "better" if mean > 0 else "worse"
    return Difference(mean, mean - half, mean + half, p, verdict)


def _standing(study: Study, label: str, difference: Difference | None) -> GroupResult:
    runs = study.groups[label]
    base = study.groups[study.baseline] if study.baseline not in (None, label) else ()
    return GroupResult(
        label,
        runs,
        mean_interval(_accuracies(runs)),
        _mean(runs, "val", "accuracy"),
        {m.name: e for m in METRICS if (e := _mean(runs, "test", m.name)) is not None},
        min((s for run in runs for s in _epoch_seconds(run)), default=None),
        difference,
        tuple(_mcnemar(run, other) for run in runs for other in base if run.seed == other.seed),
    )


def _mcnemar(run: Run, base: Run) -> McNemar:
    ours, theirs = predictions_of(run).correct, predictions_of(base).correct
    b, c = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    return McNemar(run.seed, b, c, float(mcnemar(b, c)))


def _score(runs: Sequence[Run], searched: bool) -> float:
    """What groups are ranked by: mean test accuracy; of a search validation accuracy."""
    if not searched:
        return float(np.mean(_accuracies(runs)))
    val = _mean(runs, "val", "accuracy")
    return val.mean if val else -1.0


def _accuracies(runs: Sequence[Run]) -> list[float]:
    return [float(predictions_of(run).correct.mean()) for run in runs]


def _mean(runs: Sequence[Run], split: str, key: str) -> Estimate | None:
    values = [(run.metrics.get(split) or {}).get(key) for run in runs]
    known = [value for value in values if value is not None]
    return mean_interval(known) if known else None


def _epoch_seconds(run: Run) -> list[float]:
    """Each epoch's wall time. What else a machine does can only add to it: the least tells most."""
    ends = [float(row.get("wall_seconds", "nan")) for row in run.metrics.get("history") or []]
    return [seconds for seconds in np.diff(ends, prepend=0.0).tolist() if seconds > 0]


def generalisation_gap(run: Run) -> float | None:
    """Training minus validation accuracy after the last epoch (0..1); None without both.

    Training accuracy is that of augmented images, met during the epoch: a strong augmentation makes it
    lower, and the gap can be negative. It shows how hard training was made, not overfitting alone.
    """
    history = run.metrics.get("history") or [{}]
    train, val = history[-1].get("train/accuracy"), history[-1].get("val/accuracy")
    return None if train is None or val is None else train - val
