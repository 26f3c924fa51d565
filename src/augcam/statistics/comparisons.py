"""Two groups of runs compared, whatever their spreads and however many runs each has.

Two kinds of chance are in every accuracy: another seed gives another network, and other test images
give another count. A difference of two groups' means has the variance

    run_1 / n_1  +  run_2 / n_2  +  images / N

with `run` a group's own variance from seed to seed: groups are never pooled, because one augmentation
may make training steadier than another. Two runs tell little of a variance, so the interval's half
width adds the parts in squares, each with the quantile that fits what is known of it:

    half^2 = t(df)^2 * (run_1 / n_1 + run_2 / n_2) + z^2 * images / N

(adding weighted squares is Banerjee's bound, Sankhya 22, 1960). `df` is halfway between Welch's and
Satterthwaite's estimate (Biometrics Bulletin 2, 1946), with the larger group counted as if it had the
smaller one's runs, and the least it can be, the smaller n - 1. Satterthwaite's alone finds a difference
where there is none in up to 10% of comparisons (2 runs against 5, the two spreading four times as wide)
and, beyond 5%, far more often than it says; the least alone would leave three seeds without a voice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from augcam.statistics import LEVEL

# Fewer images say too little of all others: that each of five runs has all of three images right is no
# proof that it has every such image right.
LEAST_IMAGES = 10

# Of a bisection: p is known to one part in 30,000.
_LEAST_LOG_P, _STEPS = -14.0, 20


@dataclass(frozen=True)
class Differences:
    """Means of a group less those of another, and what is known of their chance: arrays of one shape.

    Attributes:
        mean: NaN where there is nothing to compare.
        run: variance of the difference from seed to seed. NaN where a group has a single run.
        df: degrees of freedom of `run`.
        images: variance of the difference from the sampling of test images. NaN where they are too few.
    """

    mean: np.ndarray
    run: np.ndarray
    df: np.ndarray
    images: np.ndarray

    def half_width(self, level: float = LEVEL) -> np.ndarray:
        """Half of the interval that holds the difference in all but `level` of studies."""
        t = special.stdtrit(self.df, level / 2)
        half: np.ndarray = np.sqrt(t**2 * self.run + special.ndtri(level / 2) ** 2 * self.images)
        return half

    @property
    def p(self) -> np.ndarray:
        """Two-sided: the level at which the interval reaches 0. At least 1e-14."""
        low, high = np.full(self.mean.shape, _LEAST_LOG_P), np.zeros(self.mean.shape)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            t, z = special.stdtrit(self.df, 10**middle / 2), special.ndtri(10**middle / 2)
            beyond = self.mean**2 > t**2 * self.run + z**2 * self.images
            low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
        p = np.where(self.mean == 0, 1.0, 10**high)
        known: np.ndarray = np.where(np.isnan(self.mean + self.run + self.images), np.nan, p)
        return known


def difference_of_means(group: Sequence[float], other: Sequence[float]) -> Differences:
    """Plain values of runs compared, seed to seed alone: shape (). NaN variance for a single value."""
    one, two = (np.asarray(values, np.float64) for values in (group, other))
    n = len(one), len(two)
    parts = [np.asarray(v.var(ddof=1) / len(v) if len(v) > 1 else np.nan) for v in (one, two)]
    return _differences(np.asarray(one.mean() - two.mean()), parts, n, np.asarray(0.0))


def _differences(
    mean: np.ndarray, run: Sequence[np.ndarray], n: tuple[int, int], images: np.ndarray
) -> Differences:
    """The module's degrees of freedom, from the groups' variances of their means."""
    one, two = (np.asarray(part, np.float64) for part in run)
    least = min(n) - 1
    if not least:
        unknown = np.full(mean.shape, np.nan)
        return Differences(mean, unknown, unknown, images)
    both = one + two
    with np.errstate(divide="ignore", invalid="ignore"):
        satterthwaite = both**2 / (one**2 + two**2) * least
    known = np.where(both > 0, satterthwaite, least)
    return Differences(mean, both, (least + known) / 2, images)


def difference_of_counts(
    group: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> Differences:
    """Rates of two groups of runs that each met images of their own, such as their validation images.

    A run's variance holds that of its images already, so `images` is 0. It is the runs' own, and never
    less than that of so many independent tosses of a coin: rates that happen to be equal are no spread
    of 0. Runs of equal seed share their images, which only makes the difference steadier than reckoned.

    Args:
        group, other: hits and images, int (runs, strata) each.

    Returns:
        Arrays (strata,). NaN where a stratum has no image in some run; no variance for a single run.
    """
    means, parts = [], []
    for hits, images in (group, other):
        met = np.where(images > 0, images, np.nan)
        rates = hits / met
        means.append(rates.mean(0))
        if len(rates) < 2:
            parts.append(np.full(rates.shape[1], np.nan))
            continue
        # Half an image more on either side (Jeffreys' prior): no rate is surely 0 or 1.
        share = (hits.sum(0) + 0.5) / (met.sum(0) + 1)
        tosses = (share * (1 - share) / met).mean(0)
        parts.append(np.maximum(rates.var(0, ddof=1), tosses) / len(rates))
    n = len(group[0]), len(other[0])
    return _differences(means[0] - means[1], parts, n, np.zeros(len(means[0])))


class Rates:
    """How often runs hit the same images, group by group, in each stratum of the images.

    With y[r, i] saying whether run r hits image i, a group's `run` is the variance of its runs' rates,
    but never less than the part that is certain: each image's own variance from seed to seed, averaged
    over the images, over N. Two accuracies that happen to be close would otherwise look like no noise.
    `images` is the variance over images of the expected difference: what is observed, less what the
    seeds put into it (the method of moments for crossed random effects, as in Gallas, "One-shot estimate
    of MRMC variance", Academic Radiology 2006). Were it left out, the answer would hold for these very
    images alone.

    Runs are independent here, also those of equal seed: they share the split and the initial weights,
    but not the course of training. What they share can only make their difference steadier than is
    reckoned. The images are paired throughout.

    A stratum of fewer than `LEAST_IMAGES` images has a difference, and no variance.

    Args:
        groups: by name bool (n_g, N), over the same N images.
        stratum: int (N,) in 0..strata-1; all images are one stratum without it.
    """

    def __init__(
        self, groups: dict[str, np.ndarray], stratum: np.ndarray | None = None, strata: int = 1
    ) -> None:
        count = next(iter(groups.values())).shape[1]
        self._stratum = np.zeros(count, np.int64) if stratum is None else stratum.astype(np.int64)
        self._strata = strata
        # Every stratum, and after them for every stratum all images outside it.
        inside = np.bincount(self._stratum, minlength=strata).astype(np.float64)
        images = np.concatenate([inside, count - inside])
        self._images = np.where(images > 0, images, np.nan)
        self._runs = {name: len(hits) for name, hits in groups.items()}
        self._share = {name: hits.mean(0) for name, hits in groups.items()}
        self._churn: dict[str, np.ndarray] = {}
        self._rates: dict[str, np.ndarray] = {}
        for name, hits in groups.items():
            n, share = len(hits), self._share[name]
            if n > 1:
                self._rates[name] = np.stack([self._mean(run) for run in hits])
                self._churn[name] = self._mean(share * (1 - share)) * n / (n - 1)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the images in each stratum and outside it, (2 * strata,); NaN where none is."""
        inside = np.bincount(self._stratum, values, self._strata)
        sums: np.ndarray = np.concatenate([inside, values.sum() - inside])
        return sums / self._images

    def rate(self, name: str) -> np.ndarray:
        """Mean rate of a group's runs in every stratum, (strata,); NaN where it is empty."""
        return self._mean(self._share[name])[: self._strata]

    def difference(self, group: str, other: str) -> Differences:
        """Rates of `group` minus those of `other`, (strata,). No variance where either has one run."""
        return self._compared(group, other, outside=0)

    def departure(self, group: str, other: str) -> Differences:
        """The difference in each stratum minus the one in all other images together, (strata,).

        It is 0 where a stratum goes with the rest, up or down. A run is compared with itself, so what
        makes all of its strata better or worse at once is no noise. No variance where either group has
        one run; NaN where a stratum has no image, or all of them.
        """
        return self._compared(group, other, outside=-1)

    def _compared(self, group: str, other: str, outside: int) -> Differences:
        """Each stratum's difference, and `outside` times that of all images outside it."""
        shift = self._share[group] - self._share[other]
        each = self._mean(shift)
        mean = self._added(each, outside)
        n = self._runs[group], self._runs[other]
        if min(n) < 2:
            nothing = np.full(self._strata, np.nan)
            return Differences(mean, nothing, nothing, nothing)
        enough = np.where(self._images >= LEAST_IMAGES, self._images, np.nan)
        observed = (self._mean(shift**2) - each**2) * enough / (enough - 1)
        seeds = self._churn[group] / n[0] + self._churn[other] / n[1]
        images = np.maximum(observed - seeds, 0) / enough
        run = []
        for name, runs in zip((group, other), n, strict=True):
            spread = self._added(self._rates[name], outside).var(0, ddof=1)
            certain = self._added(self._churn[name] / self._images, abs(outside))
            run.append(np.maximum(spread, certain) / runs)
        return _differences(mean, run, n, self._added(images, abs(outside)))

    def _added(self, values: np.ndarray, outside: int) -> np.ndarray:
        """(..., 2 * strata) -> (..., strata): in each, and `outside` times what is outside it."""
        within = values[..., : self._strata]
        return within + outside * values[..., self._strata :] if outside else within


def mcnemar(b: np.ndarray | int, c: np.ndarray | int) -> np.ndarray:
    """McNemar's exact test: two-sided binomial p of b against c discordant images; 1 where none is.

    Exact rather than mid-p: it is never above its 5%, and with hundreds of discordant images the two
    hardly differ. McNemar, Psychometrika 12 (1947); Dietterich, Neural Computation 10 (1998). It
    answers whether two *networks* differ; two networks of one augmentation often do.
    """
    b, c = np.asarray(b), np.asarray(c)
    p: np.ndarray = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(b, c), b + c, 0.5))
    return p


def unequal_spread(groups: Sequence[Sequence[float]]) -> bool:
    """Whether the groups' values spread unequally, by Bartlett's test at 5% (1937).

    Groups of one value, or of equal ones, say nothing.
    """
    known = [g for g in groups if len(g) > 1 and np.ptp(g) > 0]
    return len(known) > 1 and bool(stats.bartlett(*known).pvalue < LEVEL)
