"""How often do tests of "this augmentation changes accuracy" find a difference where there is none?

    python bench/report_statistics.py          # minutes on one core
    python bench/report_statistics.py 500      # fewer repetitions

Networks are simulated. Each test image has a probability of being classified correctly, from a Beta
distribution (93% on average; two networks disagree about 5.5% of the images); each run shifts all of
them together, so that accuracies differ from seed to seed by 0.25 points (standard deviation, 10,000
images), of which 0.17 are the images' own coin tosses. Then a group and a baseline are drawn

- "same networks": from one distribution: an augmentation that does nothing at all;
- "other images": each augmentation makes other images hard (every image's log-odds are moved, the
  probabilities differ by 0.13, standard deviation), yet both are equally good over all images that
  could have been in the test set;
- "loud seeds": as the first, but accuracies differ from seed to seed by 0.6 points;
- "better by 0.7": the group's accuracy is 0.7 points higher: here a test should speak.

Printed is the share of repetitions in which a test at 5% says "different". `Comparison` is what the
report uses.
"""

import platform
import sys
from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import scipy
from scipy import stats

from augcam.report.statistics import Comparison, mcnemar

Runs = np.ndarray  # bool (n, N)


def networks(rng: np.random.Generator, logit: np.ndarray, n: int, run_std: float) -> Runs:
    """Which images n networks get right; run_std shifts all log-odds of a run together."""
    shifted = logit + rng.normal(0, run_std, (n, 1)).astype(np.float32)
    return rng.random((n, logit.shape[-1]), dtype=np.float32) < 1 / (1 + np.exp(-shifted))


def log_odds(rng: np.random.Generator, images: int) -> np.ndarray:
    p = np.clip(rng.beta(0.68, 0.05, images), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p)).astype(np.float32)


def ours(group: Runs, base: Runs) -> bool:
    return bool(Comparison([group, base]).difference(group, base)[2][0] < 0.05)


def paired_t(group: Runs, base: Runs) -> bool:
    return bool(stats.ttest_rel(group.mean(1), base.mean(1)).pvalue < 0.05)


def welch(group: Runs, base: Runs) -> bool:
    return bool(stats.ttest_ind(group.mean(1), base.mean(1), equal_var=False).pvalue < 0.05)


def first_mcnemar(group: Runs, base: Runs) -> bool:
    b, c = (base[0] & ~group[0]).sum(), (group[0] & ~base[0]).sum()
    return bool(mcnemar(b, c) < 0.05)


def pooled_mcnemar(group: Runs, base: Runs) -> bool:
    return bool(mcnemar((base & ~group).sum(), (group & ~base).sum()) < 0.05)


def seed_bootstrap(group: Runs, base: Runs) -> bool:
    """Percentile interval over every resample of the seed pairs."""
    difference = group.mean(1) - base.mean(1)
    resamples = np.array(list(product(range(len(difference)), repeat=len(difference))))
    low, high = np.quantile(difference[resamples].mean(1), [0.025, 0.975])
    return bool(low > 0 or high < 0)


@cache
def image_weights(resamples: int, images: int) -> np.ndarray:
    """How often each image is drawn, as a share: (resamples, images), rows sum to 1."""
    weights = np.random.default_rng(0).poisson(1, (resamples, images)).astype(np.float32)
    return weights / weights.sum(1, keepdims=True)


def two_way_bootstrap(group: Runs, base: Runs, resamples: int = 300) -> bool:
    """Percentile interval over resamples of seed pairs and, independently, of images."""
    n, images = group.shape
    each = image_weights(resamples, images) @ (group.astype(np.float32) - base).T
    drawn = np.random.default_rng(0).integers(n, size=(resamples, n))
    means = np.take_along_axis(each, drawn, 1).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return bool(low > 0 or high < 0)


# Test -> the fewest runs of each group that it needs, and whether it needs equally many.
TESTS: dict[Callable[[Runs, Runs], bool], tuple[str, int, bool]] = {
    ours: ("Comparison", 1, False),
    paired_t: ("paired t over seeds", 2, True),
    welch: ("Welch's t over seeds", 2, False),
    first_mcnemar: ("McNemar, one pair of runs", 1, False),
    pooled_mcnemar: ("McNemar, discordant images of all pairs", 1, True),
    seed_bootstrap: ("bootstrap over seed pairs", 2, True),
    two_way_bootstrap: ("bootstrap over seed pairs and images", 2, True),
}


def rates(
    sizes: tuple[int, int],
    images: int,
    repetitions: int,
    moved: float = 0.0,
    better: float = 0.0,
    stds: tuple[float, float] = (0.068, 0.068),
    tests: tuple[Callable[[Runs, Runs], bool], ...] = tuple(TESTS),
) -> dict[str, float]:
    """How often each test says "different", by its name; those that need more runs are missing.

    Args:
        sizes: runs of the group and of the baseline.
        moved: standard deviation by which each group moves each image's log-odds.
        better: added to the group's log-odds.
        stds: of the run's shift, in the group and the baseline.
    """
    rng = np.random.default_rng(1)
    said: dict[str, int] = {}
    for _ in range(repetitions):
        logit = log_odds(rng, images)
        both = []
        for n, std, shift in zip(sizes, stds, (better, 0.0), strict=True):
            own = logit + shift + moved * rng.standard_normal(images, dtype=np.float32)
            both.append(networks(rng, own, n, std))
        for test in tests:
            name, least, equal = TESTS[test]
            if min(sizes) < least or (equal and sizes[0] != sizes[1]):
                continue
            if test is ours and sum(sizes) == 2:
                continue  # no verdict for one run each
            said[name] = said.get(name, 0) + test(*both)
    return {name: count / repetitions for name, count in said.items()}


def cell_rates(
    seeds: int,
    repetitions: int,
    real: int = 0,
    groups: int = 5,
    classes: int = 10,
    per_class: int = 1000,
) -> dict[str, tuple[float, float]]:
    """Class x augmentation cells: by correction, how often any cell without an effect is marked, and
    the mean share of such cells among those marked.

    Beside the run's common shift each class of each run has its own (class accuracies then differ by
    0.7 points from seed to seed). `real` cells of every group have an effect, of 4 points.
    """
    rng = np.random.default_rng(2)
    label = np.repeat(np.arange(classes), per_class)
    found: dict[str, list[tuple[int, int]]] = {"none": [], "Benjamini-Hochberg": [], "Holm": []}
    effect = np.zeros(classes)
    effect[:real] = 2.0
    for _ in range(repetitions):
        logit = log_odds(rng, len(label))
        drawn = []
        for number in range(groups + 1):
            shift = rng.normal(0, 0.25, (seeds, classes)) + (effect if number else 0)
            own = logit + shift[:, label].astype(np.float32)
            drawn.append(networks(rng, own, seeds, 0.068))
        comparison = Comparison(drawn, label, classes)
        p = np.concatenate([comparison.difference(group, drawn[0])[2] for group in drawn[1:]])
        null = np.tile(effect == 0, groups)
        ordered = np.sort(p)
        holm_bar = 0.05 / np.arange(len(p), 0, -1)
        stopped = np.flatnonzero(ordered > holm_bar)
        holm = p < (ordered[stopped[0]] if len(stopped) else np.inf)
        for name, marked in (
            ("none", p <= 0.05),
            ("Benjamini-Hochberg", stats.false_discovery_control(p) <= 0.05),
            ("Holm", holm),
        ):
            found[name].append((int((marked & null).sum()), int(marked.sum())))
    return {
        name: (
            float(np.mean([wrong > 0 for wrong, _ in pairs])),
            float(np.mean([wrong / max(marked, 1) for wrong, marked in pairs])),
        )
        for name, pairs in found.items()
    }


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    error = 100 * (0.05 * 0.95 / repetitions) ** 0.5
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}; "
        f"{repetitions} repetitions, so that 5% is told to within {error:.1f} (standard error)"
    )
    seeds = ((1, 1), (2, 2), (3, 3), (5, 5))
    for title, images, options in (
        ("no difference: same networks, 10,000 images", 10_000, {}),
        ("no difference: loud seeds, 10,000 images", 10_000, {"stds": (0.2, 0.2)}),
        ("no difference: other images, 10,000 images", 10_000, {"moved": 1.5}),
        ("no difference: same networks, 500 images", 500, {}),
        ("no difference: other images, 500 images", 500, {"moved": 1.5}),
        ("better by 0.7 points, 10,000 images", 10_000, {"better": 0.25, "moved": 0.5}),
    ):
        print(
            f"\n{title}\n\n| says different, % | "
            + " | ".join(f"{n} seed{'s' * (n > 1)}" for n, _ in seeds)
            + " |"
        )
        print("|---|" + "---|" * len(seeds))
        table = [rates(sizes, images, repetitions, **options) for sizes in seeds]
        for name, *_ in TESTS.values():
            cells = (f"{100 * row[name]:.1f}" if name in row else "-" for row in table)
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(
        "\nno difference: same networks, 10,000 images, unequal groups (runs of group, of baseline)\n"
    )
    print(
        "| says different, % | 1, 2 | 1, 3 | 2, 5 | 5, 2 | 2, 2 | 5, 5 |\n|---|---|---|---|---|---|---|"
    )
    unequal = ((1, 2), (1, 3), (2, 5), (5, 2), (2, 2), (5, 5))
    for title, stds in (
        ("Comparison", (0.068, 0.068)),
        ("Comparison, the group's seeds vary twice as much", (0.136, 0.068)),
    ):
        cells = [
            rates(sizes, 10_000, repetitions, stds=stds, tests=(ours,))["Comparison"]
            for sizes in unequal
        ]
        print(
            f"| {title} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |", flush=True
        )
    print(
        "\n5 augmentations x 10 classes: % of repetitions with a cell marked wrongly; "
        "% of marked cells that are wrong\n"
    )
    print(
        "| correction | cells with an effect | 2 seeds | 3 seeds | 5 seeds |\n|---|---|---|---|---|"
    )
    for real in (0, 4):
        by_seeds = [cell_rates(n, max(repetitions // 4, 50), real) for n in (2, 3, 5)]
        for name in by_seeds[0]:
            cells = (f"{100 * row[name][0]:.1f}; {100 * row[name][1]:.1f}" for row in by_seeds)
            print(f"| {name} | {real} of 10 | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
