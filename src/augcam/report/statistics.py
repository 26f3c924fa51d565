"""What a study's numbers say, and how sure they are: intervals, tests, distances between maps.

Two kinds of chance are in every accuracy: another seed gives another network, and other test images
give another count. `Comparison` reckons with both; bench/report_statistics.py shows by simulation how
often it, and the tests that are usual in its place, find a difference where there is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special, stats

from augcam.errors import UserError
from augcam.report.load import Maps, Run, Study

Verdict = Literal["better", "worse", "tie"]
LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its 95% interval. low, high and std are None for fewer than two values."""

    mean: float
    low: float | None
    high: float | None
    n: int
    std: float | None


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
    """A group against the baseline: test accuracy, group minus baseline, in 0..1.

    Attributes:
        mean: difference of the mean accuracies.
        low, high: 95% interval; p: two-sided. None where neither group has a second run.
        verdict: "better", "worse" or "tie"; None where there is no interval.
        why: what stands in the way of a verdict, one sentence; "" where there is one.
        mcnemar: one for each seed that both have.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    verdict: Verdict | None
    why: str
    mcnemar: list[McNemar]


@dataclass(frozen=True)
class ClassDifferences:
    """Class by class, every group but the baseline against it: arrays (groups, classes), in 0..1.

    Attributes:
        groups, classes: names of rows and columns.
        mean: difference of the class's mean accuracy; NaN for a class without images.
        half_width: of the 95% interval of each cell by itself.
        p: two-sided, of each cell by itself.
        clear: bool, differs from 0 after Benjamini-Hochberg over all cells.
        images_only: no group has a second run, so that p and intervals know the sampling of test images
            alone: they speak of these networks, not of the augmentations.
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    mean: np.ndarray
    half_width: np.ndarray
    p: np.ndarray
    clear: np.ndarray
    images_only: bool


@dataclass(frozen=True)
class ConfusionChange:
    """How often `true` is taken for `predicted`, per 1,000 images of `true`, mean over runs.

    Attributes:
        baseline, group: the two rates; change: group minus baseline.
        low, high: 95% interval of the change by itself; None where no group has a second run.
        clear: differs from 0 after Benjamini-Hochberg over all pairs of classes.
    """

    true: str
    predicted: str
    baseline: float
    group: float
    change: float
    low: float | None
    high: float | None
    clear: bool


@dataclass(frozen=True)
class Spread:
    """A measure over pairs of runs: mean, least and greatest, and how many pairs."""

    mean: float
    low: float
    high: float
    pairs: int


# What `map_distances` measures: key -> (title, whether maps that are further apart have more of it).
MEASURES: dict[str, tuple[str, bool]] = {
    "mean_absolute": ("mean absolute difference", True),
    "mean_squared": ("mean squared difference", True),
    "pearson": ("Pearson correlation", False),
    "spearman": ("Spearman correlation", False),
    "overlap": ("overlap rate", False),
    "kl": ("KL divergence of the predictions (nats)", True),
}


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of independent values, and Student's 95% t interval of it.

    Raises:
        UserError: no value.
    """
    given = np.asarray(values, np.float64)
    if not len(given):
        raise UserError("no values to average")
    mean = float(given.mean())
    if len(given) == 1:
        return Estimate(mean, None, None, 1, None)
    std = float(given.std(ddof=1))
    half = float(stats.t.ppf(1 - LEVEL / 2, len(given) - 1)) * std / math.sqrt(len(given))
    return Estimate(mean, mean - half, mean + half, len(given), std)


class Comparison:
    """Rates of several groups of runs on the same images, compared in each stratum of the images.

    With y[r, i] saying whether run r hits image i, the difference of two groups' rates in a stratum of
    N images has the variance

        (1/n_group + 1/n_baseline) * run  +  images / N

    `run` is the variance of a run's rate from seed to seed, pooled over the groups (analysis of
    variance: every group's own mean, one common spread), but never less than the part that is certain:
    each image's own variance from seed to seed, averaged over the images, over N. That floor matters
    where runs are few: two accuracies that happen to be close would otherwise look like no noise at all.
    `images` is the variance over images of the expected difference: what is observed, less what the
    seeds put into it (the method of moments for crossed random effects, as in Gallas, "One-shot estimate
    of MRMC variance", Academic Radiology 2006). Were it left out, the answer would hold for these very
    images alone. The t distribution's degrees of freedom follow Satterthwaite (1946).

    Runs are independent here, also those of equal seed: they share the split and the initial weights,
    but not the course of training. What they share can only make their difference steadier than is
    reckoned, so that the error stays below 5%; pairing them would halve the degrees of freedom, which
    with two or three seeds costs far more than it gains. The images are paired throughout.

    One spread for all groups is assumed. Simulated, with equally many runs the error is at most 5%
    within what 1,000 repetitions can tell (0 to 6%), whatever the spread; it reaches 10% where a group
    of two, compared with five, varies twice as much from seed to seed. With two seeds each it is mostly
    far below 5%: only large differences are found.

    Args:
        groups: bool (n_g, M) each, over the same M images.
        stratum: int (M,) in 0..strata-1; all images are one stratum without it.
    """

    def __init__(
        self,
        groups: Sequence[np.ndarray],
        stratum: np.ndarray | None = None,
        strata: int = 1,
    ) -> None:
        images = groups[0].shape[1]
        self._stratum = np.zeros(images, np.int64) if stratum is None else stratum.astype(np.int64)
        self._strata = strata
        self.count = np.bincount(self._stratum, minlength=strata).astype(np.float64)
        self.df = sum(len(group) - 1 for group in groups)
        between, churn = np.zeros(strata), np.zeros(images)
        for group in groups:
            if len(group) > 1:
                rates = np.stack([self._mean(run) for run in group])
                between += ((rates - rates.mean(0)) ** 2).sum(0)
                share = group.mean(0)
                churn += len(group) * share * (1 - share)
        # NaN without a second run: nothing is known of the seeds.
        df = self.df or math.nan
        self._churn = self._mean(churn) / df
        self._run = np.maximum(between / df, self._churn / self._filled)

    @property
    def _filled(self) -> np.ndarray:
        return np.where(self.count > 0, self.count, math.nan)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the images of each stratum, (strata,); NaN where it has none."""
        return np.bincount(self._stratum, values, self._strata) / self._filled

    def rate(self, group: np.ndarray) -> np.ndarray:
        """Mean rate of a group's runs, bool (n, M), in every stratum; NaN where it is empty."""
        return self._mean(group.mean(0))

    def difference(
        self, group: np.ndarray, baseline: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rates of `group` minus those of `baseline`, bool (n, M) each, in every stratum.

        Returns:
            Mean, half width of the 95% interval, two-sided p: (strata,) each; NaN where a stratum is
            empty. Where no group has a second run they know the sampling of the images alone: a normal
            interval, and the exact McNemar test.
        """
        shift = group.mean(0) - baseline.mean(0)
        mean = self._mean(shift)
        rest = np.where(self.count > 1, self.count - 1, math.nan)
        observed = (self._mean(shift**2) - mean**2) * self.count / rest
        if not self.df:
            half = -stats.norm.ppf(LEVEL / 2) * np.sqrt(observed / self.count)
            lost, won = (np.bincount(self._stratum, shift == s, self._strata) for s in (-1, 1))
            return mean, half, np.where(self.count > 0, mcnemar(lost, won), math.nan)
        weight = 1 / len(group) + 1 / len(baseline)
        run = weight * self._run
        # A stratum of one image says nothing of others.
        images = np.maximum(np.nan_to_num(observed - weight * self._churn), 0) / self._filled
        total = run + images
        with np.errstate(divide="ignore", invalid="ignore"):
            df = np.where(run > 0, self.df * (total / run) ** 2, math.inf)
            t = np.where(mean == 0, 0, np.abs(mean) / np.sqrt(total))
        half = stats.t.ppf(1 - LEVEL / 2, df) * np.sqrt(total)
        return mean, half, 2 * stats.t.sf(t, df)


def mcnemar(b: np.ndarray | int, c: np.ndarray | int) -> np.ndarray:
    """McNemar's exact test: two-sided binomial p of b against c discordant images; 1 where none is.

    Exact rather than mid-p: it is never above its 5%, and with hundreds of discordant images the two
    hardly differ. McNemar, Psychometrika 12 (1947); Dietterich, Neural Computation 10 (1998).
    """
    b, c = np.asarray(b), np.asarray(c)
    p: np.ndarray = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(b, c), b + c, 0.5))
    return p


def paired_difference(group: Sequence[Run], baseline: Sequence[Run]) -> Difference:
    """Test accuracy of a group against the baseline's, on the same test images.

    The interval and p are those of `Comparison`, which needs a second run in one of the groups at
    least; a group of one run borrows the spread of the other. McNemar's test of two runs answers whether
    these two networks differ, and two networks of one augmentation do so too often to judge by it (one
    time in six in bench/report_statistics.py): it is told, but gives no verdict. Nor does a bootstrap
    over seeds: a handful of them, drawn with repetition, shows too little spread.

    The verdict is that of one comparison, at 5%; of twenty without effect, one will not be a tie.

    Raises:
        UserError: a group without runs.
    """
    if not group or not baseline:
        raise UserError("a comparison needs a run in both groups")
    hits, base = _correct(group), _correct(baseline)
    comparison = Comparison([hits, base])
    mean, half, p = (float(part[0]) for part in comparison.difference(hits, base))
    by_seed = {run.seed: row for run, row in zip(baseline, base, strict=True)}
    tests = []
    for run, row in zip(group, hits, strict=True):
        if run.seed in by_seed:
            b, c = int((by_seed[run.seed] & ~row).sum()), int((row & ~by_seed[run.seed]).sum())
            tests.append(McNemar(run.seed, b, c, float(mcnemar(b, c))))
    if not comparison.df:
        why = (
            "One seed each: whether another seed would turn the difference round is unknown; "
            "run both with two seeds or more."
        )
        return Difference(mean, None, None, None, None, why, tests)
    verdict: Verdict = "tie" if p >= LEVEL else "better" if mean > 0 else "worse"
    return Difference(mean, mean - half, mean + half, p, verdict, "", tests)


def _correct(runs: Sequence[Run]) -> np.ndarray:
    """bool (runs, N)."""
    return np.stack([_predictions(run).correct for run in runs])


def _predictions(run: Run) -> Any:
    assert run.predictions is not None, f"{run.folder}: every run of a group has its predictions"
    return run.predictions


def class_differences(study: Study) -> ClassDifferences:
    """Every class under every other group against the baseline, as `Comparison` has it.

    The spread from seed to seed is each class's own, pooled over all groups. Among many cells some
    stand out by chance: `clear` holds the share of false ones among those marked at 5% (Benjamini,
    Hochberg, J. R. Statist. Soc. B 57, 1995; the cells of a row and of a column depend on each other
    positively or hardly at all; the simulated rate is in bench/report_statistics.py).

    Raises:
        UserError: the study has no baseline.
    """
    baseline = study.groups[_baseline(study)]
    label = _predictions(baseline[0]).label
    correct = {name: _correct(runs) for name, runs in study.groups.items()}
    comparison = Comparison(list(correct.values()), label, len(study.classes))
    others = tuple(name for name in study.groups if name != study.baseline)
    cells = np.array(
        [comparison.difference(correct[name], correct[_baseline(study)]) for name in others]
    ).reshape(len(others), 3, len(study.classes))
    mean, half_width, p = cells[:, 0], cells[:, 1], cells[:, 2]
    return ClassDifferences(
        others, study.classes, mean, half_width, p, _clear(p), images_only=not comparison.df
    )


def _baseline(study: Study) -> str:
    if study.baseline is None:
        raise UserError("nothing to compare with: the study has no baseline")
    return study.baseline


def _clear(p: np.ndarray) -> np.ndarray:
    """Which of the p values stand after Benjamini-Hochberg; NaN never does."""
    clear = np.zeros(p.shape, bool)
    known = ~np.isnan(p)
    if known.any():
        clear[known] = stats.false_discovery_control(p[known]) <= LEVEL
    return clear


def confusion_changes(study: Study, label: str, top: int = 5) -> list[ConfusionChange]:
    """The pairs of classes whose confusion changed most against the baseline, largest change first.

    Intervals as in `class_differences`, each for its pair by itself. The largest of many changes are
    large by chance too: `clear` reckons with that, the interval does not.

    Raises:
        UserError: the study has no baseline, or no group `label`.
    """
    base_runs = study.groups[_baseline(study)]
    if label not in study.groups:
        raise UserError(f"{label}: no such group")
    true = _predictions(base_runs[0]).label
    said = {
        name: np.stack([_predictions(run).predicted for run in runs])
        for name, runs in study.groups.items()
    }
    count = len(study.classes)
    rates = np.full((2, count, count), math.nan)
    cells = np.full((3, count, count), math.nan)
    for predicted in range(count):
        hits = {name: rows == predicted for name, rows in said.items()}
        comparison = Comparison(list(hits.values()), true, count)
        group, base = hits[label], hits[_baseline(study)]
        cells[:, :, predicted] = comparison.difference(group, base)
        rates[:, :, predicted] = [comparison.rate(base), comparison.rate(group)]
    np.einsum("kii->ki", cells)[:] = math.nan  # right answers are no confusion
    clear = _clear(cells[2])
    change = np.nan_to_num(np.abs(cells[0]), nan=-1.0)
    changes = []
    for flat in np.argsort(-change, axis=None, kind="stable")[:top]:
        i, j = divmod(int(flat), count)
        mean, half = 1000 * cells[0, i, j], 1000 * cells[1, i, j]
        if not abs(mean) > 0:  # nothing changed from here on
            break
        changes.append(
            ConfusionChange(
                study.classes[i],
                study.classes[j],
                float(1000 * rates[0, i, j]),
                float(1000 * rates[1, i, j]),
                float(mean),
                float(mean - half) if comparison.df else None,
                float(mean + half) if comparison.df else None,
                bool(clear[i, j]) and comparison.df > 0,
            )
        )
    return changes


def map_distances(first: Maps, second: Maps) -> dict[str, float]:
    """How far apart two networks look on the same images, by the six measures of Dorneles, Garcia and
    Carbonera (arXiv 2505.12581), averaged over images.

    Five compare the heat maps of the true class at the layer's own cells: `mean_absolute` and
    `mean_squared` difference (0..1), `pearson` and `spearman` correlation over cells (-1..1), and
    `overlap`: of the cells that reach half of their map's peak in either map, the share that does in
    both (intersection over union, 0..1; the threshold is ours). They leave out the images where either
    map says nothing (`Maps.usable`). `kl` is the divergence KL(first || second) of the predicted
    probabilities in nats, over all images; what float16 holds as 0 counts as 1e-7.

    Returns:
        A value for each key of MEASURES (NaN if no image is left), and `left_out`: the share of images
        that the five leave out.

    Raises:
        UserError: other images or another number of cells.
    """
    if first.map_true.shape != second.map_true.shape or (first.index != second.index).any():
        raise UserError(
            f"maps of other images or another layer cannot be compared: {first.map_true.shape} "
            f"and {second.map_true.shape}"
        )
    usable = first.usable & second.usable
    one, two = first.heat[usable], second.heat[usable]
    high_one, high_two = one >= 0.5, two >= 0.5
    p, q = (_probabilities(maps) for maps in (first, second))
    per_image = {
        "mean_absolute": np.abs(one - two).mean(1),
        "mean_squared": ((one - two) ** 2).mean(1),
        "pearson": _correlation(one, two),
        "spearman": _correlation(first.ranks[usable], second.ranks[usable]),
        "overlap": (high_one & high_two).sum(1) / (high_one | high_two).sum(1),
        "kl": special.rel_entr(p, q).sum(1),
    }
    measured = {key: float(v.mean()) if len(v) else math.nan for key, v in per_image.items()}
    return measured | {"left_out": float(1 - usable.mean())}


def _probabilities(maps: Maps) -> np.ndarray:
    p = np.clip(maps.probabilities.astype(np.float64), 1e-7, None)
    normalized: np.ndarray = p / p.sum(1, keepdims=True)
    return normalized


def _correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Pearson's of each row; a usable map is never constant."""
    one, two = one - one.mean(1, keepdims=True), two - two.mean(1, keepdims=True)
    correlation: np.ndarray = (one * two).sum(1) / np.sqrt((one**2).sum(1) * (two**2).sum(1))
    return correlation


def map_shift(study: Study, label: str) -> dict[str, Spread]:
    """Each measure of `map_distances` from the baseline's runs to the group's.

    Pairs of runs with unequal seeds, as in `noise_floor`: runs of equal seed begin with the same
    weights, and would look nearer than the floor for that alone. Where all runs have one seed, its pair
    is taken; then there is no floor.

    Returns:
        By measure, over pairs; {} without a baseline, or where either group was not evaluated.
    """
    if study.baseline is None:
        return {}
    pairs = [(a, b) for a in study.groups[study.baseline] for b in study.groups[label]]
    return _spreads([(a, b) for a, b in pairs if a.seed != b.seed]) or _spreads(pairs)


def noise_floor(study: Study) -> dict[str, Spread]:
    """Each measure of `map_distances` between baseline runs that differ in the seed alone.

    Each pair is taken both ways, as KL is not symmetric. {} for fewer than two evaluated runs.
    """
    runs = study.groups[study.baseline] if study.baseline else ()
    return _spreads([(a, b) for a in runs for b in runs if a.seed != b.seed])


def _spreads(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Spread]:
    found = [map_distances(a.maps, b.maps) for a, b in pairs if a.maps and b.maps]
    spreads = {}
    for key in found[0] if found else ():
        values = [distances[key] for distances in found]
        spreads[key] = Spread(float(np.mean(values)), min(values), max(values), len(values))
    return spreads


def mean_corruption_error(evaluation: dict[str, Any], baseline_evaluation: dict[str, Any]) -> float:
    """mCE of one evaluation against another's, in per cent; the baseline's own is 100.

    For each corruption the errors summed over severities, over the baseline's; the mean of these
    ratios (Hendrycks, Dietterich, arXiv 1903.12261, section 4.1; their baseline is AlexNet). Over the
    corruptions that both have and where the baseline errs at all; NaN if there is none.
    """
    ours, base = evaluation["corruptions"], baseline_evaluation["corruptions"]
    errors = [
        (sum(1 - a for a in ours[name]), sum(1 - a for a in base[name]))
        for name in base
        if name in ours
    ]
    ratios = [ours / base for ours, base in errors if base > 0]
    return 100 * float(np.mean(ratios)) if ratios else math.nan


def corruption_error(study: Study, label: str) -> Estimate | None:
    """mCE of a group over its evaluated runs, against the mean accuracies of the baseline's runs.

    None without a baseline, or where either group was not evaluated. The interval is that of the
    group's runs alone: the baseline's own seeds are in its row.
    """
    if study.baseline is None:
        return None
    base = [run.evaluation for run in study.groups[study.baseline] if run.evaluation]
    ours = [run.evaluation for run in study.groups[label] if run.evaluation]
    if not base or not ours:
        return None
    names = [n for n in base[0]["corruptions"] if all(n in e["corruptions"] for e in base)]
    average = {
        "corruptions": {n: np.mean([e["corruptions"][n] for e in base], axis=0) for n in names}
    }
    return mean_interval([mean_corruption_error(evaluation, average) for evaluation in ours])


def generalisation_gap(run: Run) -> float | None:
    """Training minus validation accuracy after the last epoch (0..1); None without both.

    Training accuracy is that of augmented images, met during the epoch: a strong augmentation makes it
    lower, and the gap can be negative. It tells how hard training was made, not overfitting alone.
    """
    history = run.metrics.get("history") or [{}]
    train, val = history[-1].get("train/accuracy"), history[-1].get("val/accuracy")
    return None if train is None or val is None else train - val
