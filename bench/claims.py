"""How often does a page claim something of a study in which nothing has an effect?

    python bench/claims.py null            # studies in which nothing has an effect
    python bench/claims.py praise          # maps that know nothing of the network
    python bench/claims.py power           # how often a true effect is seen
    python bench/claims.py looks           # one look at a study, and a look after every three seeds
    python bench/claims.py null --pages 300 --seed 2026

Studies are simulated, and the report's own code writes of them: `find`, the key points, the ranking's
table, the sentences on classes, confusions, maps and robustness. Counted are the pages with at least one
claim of each kind.

Networks: each test image has a probability of being classified correctly (Beta, 93% on average), each
run shifts the log-odds of all images and of each class by chance, then every image's coin is tossed. An
image has a likely wrong class. Maps are a scene of the image's own, a pattern of the run's own on all
images, and noise; the six measures of the report come from these maps. "Spread k times" multiplies a
group's run to run shifts, of accuracy, corruption errors and maps.

"Is the map true?": maps of 4 methods at 4 layers, each with its own cells in random places, and the maps
of no network, centre and edge; the value of each in an image is the image's own, shared by all, and
noise. `verdict` writes of them.
"""

import argparse
import dataclasses
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# The arrays are small: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy
from scipy import stats

from augcam.config.schema import Config
from augcam.explain.faithfulness.measure import Measured
from augcam.explain.faithfulness.verdict import QUESTIONS, praises
from augcam.report.analysis import find
from augcam.report.key_points import class_sentence, key_points
from augcam.report.load import Maps, Predictions, Run, Study
from augcam.report.sections.confusions import confusions
from augcam.report.sections.ranking import ranking_table
from augcam.report.sections.where_they_look import map_shift_blocks
from augcam.runs.run_folder import RunFolder
from augcam.viz.page import Table

CLASSES = tuple(f"class{i}" for i in range(10))
CORRUPTIONS = ("noise", "blur", "fog", "jpeg", "shift", "rotation")
CLAIMS = {
    "headline or ranking": r"\bwins\b|is first, and better|^(Better|Worse) than|\| (better|worse) \|",
    "class or confused pair": r"\b(helps|hurts)\b|\| clear\b",
    "robustness": r"the fewest of all|\b(fewer|more): ",
    "moved further": r"further apart than seeds are",
}


@dataclasses.dataclass(frozen=True)
class Design:
    """A kind of study.

    Attributes:
        seeds: runs of the baseline and of each augmentation.
        spreads: by what each group's run to run shifts are multiplied.
        images: in the test set.
        run_std: standard deviation of a run's common shift, in log-odds; 0.07 is 0.2 points.
        corrupted: whether runs have errors under corruption.
        moved: standard deviation by which each group moves each image's log-odds, harder or easier; the
            baseline's too, as the mean accuracy falls by it.
        maps: evaluated images that have maps; 0 leaves them out.
        better: points of accuracy by which the first augmentation is better.
        class_better: points by which it is better in two classes of ten alone.
        maps_moved: how far its scenes are from the others', 1: as far as two images'.
        sturdier: points by which its errors under corruption are fewer.
    """

    seeds: Sequence[int]
    spreads: Sequence[float]
    images: int = 2000
    run_std: float = 0.2
    moved: float = 0.0
    corrupted: bool = True
    maps: int = 0
    better: float = 0.0
    class_better: float = 0.0
    maps_moved: float = 0.0
    sturdier: float = 0.0


@cache
def _config() -> Config:
    from augcam.config.compose import compose
    from augcam.config.schema import validate

    return validate(compose())


def study(design: Design, rng: np.random.Generator) -> Study:
    """One study of this design."""
    label = np.repeat(np.arange(len(CLASSES)), design.images // len(CLASSES))
    p = np.clip(rng.beta(0.68, 0.05, design.images), 1e-6, 1 - 1e-6)
    logit = np.log(p / (1 - p))
    near = (label + rng.integers(1, len(CLASSES), design.images)) % len(CLASSES)
    scenes = rng.normal(size=(design.maps, 4, 4))
    elsewhere = rng.normal(size=scenes.shape)
    groups: dict[str, tuple[Run, ...]] = {}
    for number, (seeds, spread) in enumerate(zip(design.seeds, design.spreads, strict=True)):
        name = f"aug{number}" if number else "none"
        own = logit
        if number or design.moved:  # the baseline draws too only where it changes anything
            own = logit + design.moved * rng.standard_normal(design.images)
        effect = np.zeros(len(CLASSES))
        shown = scenes
        if number == 1:
            effect[:] = _shift(design.better, logit)
            effect[:2] += _shift(design.class_better, logit)
            shown = scenes + design.maps_moved * elsewhere
        groups[name] = tuple(
            _run(design, name, seed, spread, label, own + effect[label], near, shown, rng)
            for seed in range(1, seeds + 1)
        )
    runs = tuple(run for group in groups.values() for run in group)
    return Study(runs, groups, "none", CLASSES, [], {}, [])


def _shift(points: float, logit: np.ndarray) -> float:
    """The log-odds that raise mean accuracy by so many points."""
    if not points:
        return 0.0

    def gain(shift: float) -> float:
        return float(np.mean(1 / (1 + np.exp(-logit - shift)) - 1 / (1 + np.exp(-logit))))

    return float(scipy.optimize.brentq(lambda shift: 100 * gain(shift) - points, -20, 20))


def _run(
    design: Design, name: str, seed: int, spread: float, label: np.ndarray, logit: np.ndarray,
    near: np.ndarray, scenes: np.ndarray, rng: np.random.Generator,
) -> Run:  # fmt: skip
    shift = rng.normal(0, spread * design.run_std)
    by_class = rng.normal(0, spread * design.run_std, len(CLASSES))
    odds = logit + shift + by_class[label]
    correct = rng.random(len(label)) < 1 / (1 + np.exp(-odds))
    anything = (label + rng.integers(1, len(CLASSES), len(label))) % len(CLASSES)
    wrong = np.where(rng.random(len(label)) < 0.6, near, anything)
    predicted = np.where(correct, label, wrong).astype(np.uint16)
    predictions = Predictions(label.astype(np.uint16), predicted, np.ones(len(label), np.float16))
    maps, evaluation = None, None
    if design.maps:
        maps = _maps(scenes, spread, rng)
    if design.corrupted:
        errors = 0.3 + 0.05 * spread * (rng.normal() + rng.normal(size=(len(CORRUPTIONS), 1)) / 2)
        if name == "aug1":
            errors = errors - design.sturdier / 100
        table = np.clip(1 - errors * np.linspace(0.5, 1.5, 5), 0.01, 0.99)
        by_name = dict(zip(CORRUPTIONS, table.tolist(), strict=True))
        evaluation = {
            "corruptions": by_name,
            "accuracy": float(correct.mean()),
            "images": len(label),
        }
    metrics: dict[str, Any] = {"test": {"accuracy": float(correct.mean())}}
    folder = RunFolder(Path("simulated") / f"{name},seed={seed}")
    return Run(
        folder, _config(), "finished", "", name, seed, metrics, predictions, evaluation, maps
    )  # fmt: skip


def _maps(scenes: np.ndarray, spread: float, rng: np.random.Generator) -> Maps:
    n = len(scenes)
    raw = scenes + 0.15 * spread * (rng.normal(size=scenes.shape) + rng.normal(size=(1, 4, 4)))
    logits = 2 * scenes.reshape(n, -1)[:, : len(CLASSES)]
    logits = logits + 0.2 * spread * rng.normal(size=logits.shape)
    probabilities = scipy.special.softmax(logits, axis=1).astype(np.float16)
    raw = raw.astype(np.float32)
    return Maps(np.arange(n), np.zeros(n, np.uint16), probabilities, raw)


def page(of: Study) -> list[str]:
    """Everything that the report says of a study and that could be a claim, a sentence an entry."""
    findings = find(of, Path("figures"))
    lines = [_plain(point) for point in key_points(findings)]
    lines += _rows(ranking_table(findings))
    classes = findings.per_class
    assert classes is not None
    lines += [class_sentence(classes, row) for row in range(len(classes.groups))]
    for block in (*confusions(findings).blocks, *map_shift_blocks(findings)):
        lines += _rows(block) if isinstance(block, Table) else []
        text = block.splitlines() if isinstance(block, str) else []
        lines += [line.removeprefix("- ") for line in text]  # a sentence may be a bullet
    return lines


def _plain(sentence: str) -> str:
    return sentence.replace("*", "").replace("`", "")


def _rows(table: Table) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in table.rows]


def claims(lines: Sequence[str]) -> dict[str, bool]:
    """Which kinds of claim a page makes."""
    return {
        kind: any(re.search(pattern, line) for line in lines) for kind, pattern in CLAIMS.items()
    }


def count_claims(design: Design, pages: int, seed: int | Sequence[int] = 0) -> dict[str, int]:
    """On how many of `pages` pages each kind of claim stands."""
    rng = np.random.default_rng(seed)
    count = dict.fromkeys(CLAIMS, 0)
    for _ in range(pages):
        for kind, made in claims(page(study(design, rng))).items():
            count[kind] += made
    return count


def noise_maps(images: int, beat: Sequence[str], rng: np.random.Generator) -> list[Measured]:
    """What is measured of 16 maps that know nothing, and of what they must beat.

    Args:
        images: that were explained.
        beat: "random" (each map's own cells in random places), "centre", "edge"; one that is left
            out is no rival, as if every map beat it.
        rng: of the values.
    """
    found = []
    for question in QUESTIONS:
        image = rng.normal(0, 1, images)

        def draw(image: np.ndarray = image) -> np.ndarray:
            return image + rng.normal(0, 0.2, images)

        for method in ("gradcam", "gradcam++", "hirescam", "layercam"):
            for layer in ("layer1", "layer2", "layer3", "layer4"):
                random = draw() if "random" in beat else None
                found.append(Measured(method, layer, question, draw(), random, 0))
        found += [Measured(m, "", question, draw(), None, 0) for m in beat if m != "random"]
    return found


# --------------------------------------------------------------------------------- what is measured
def spreads_of(augmentations: int) -> dict[str, list[float]]:
    """By name, what the baseline's and each augmentation's shifts are multiplied by."""
    return {
        "equal": [1.0] * (augmentations + 1),
        "baseline 4x": [4.0] + [1.0] * augmentations,
        "one augmentation 4x": [1.0, 4.0] + [1.0] * (augmentations - 1),
        "from 1x to 4x": list(np.linspace(1, 4, augmentations + 1)),
    }


def null_designs() -> Iterator[tuple[str, Design]]:
    """Studies without any effect, most asked for first."""
    for seeds in (2, 3, 5):
        for name, spreads in spreads_of(4).items():
            maps = 30 if seeds > 3 else 0  # a verdict on maps takes 4 seeds
            yield f"{seeds} | 4 | {name}", Design([seeds] * 5, spreads, maps=maps)
    for base, other in ((2, 5), (5, 2)):
        for name in ("baseline 4x", "one augmentation 4x"):
            title = f"{base} of the baseline, {other} | 4 | {name}"
            yield title, Design([base, *[other] * 4], spreads_of(4)[name])
    for name in ("equal", "baseline 4x"):
        yield f"4 | 1 | {name}", Design([4] * 2, spreads_of(1)[name], maps=30)
    for seeds in (2, 3, 5):
        for augmentations in (2, 10):
            for name in ("equal", "from 1x to 4x"):
                spreads = spreads_of(augmentations)[name]
                yield (
                    f"{seeds} | {augmentations} | {name}",
                    Design([seeds] * (augmentations + 1), spreads),
                )
    for seeds in (2, 3, 5):
        yield f"{seeds} | 4 | equal, other images hard", Design([seeds] * 5, [1.0] * 5, moved=1.5)


# Seeds in each group when somebody looks who goes on until a winner is named.
LOOKS = (3, 6, 9, 12)

# What is claimed of the one augmentation of four that has an effect.
EFFECTS: dict[str, tuple[dict[str, float], str]] = {
    "+0.5 points": ({"better": 0.5}, r"^(aug1 (wins|is first, and)|Better than none: .*aug1)"),
    "+1 point": ({"better": 1.0}, r"^(aug1 (wins|is first, and)|Better than none: .*aug1)"),
    "+2 points": ({"better": 2.0}, r"^(aug1 (wins|is first, and)|Better than none: .*aug1)"),
    "+2 points: wins": ({"better": 2.0}, r"^aug1 wins"),
    "+3 points in two classes": ({"class_better": 3.0}, r"^aug1 helps"),
    "maps moved by 0.5": ({"maps_moved": 0.5}, r"^aug1: further apart"),
}


def power(effect: Mapping[str, Any], pattern: str, seeds: int, pages: int, seed: int = 0) -> int:
    """On how many pages, of 10,000 test images, a true effect is seen."""
    maps = 30 if "maps_moved" in effect else 0
    images = 1000 if maps else 10_000
    design = Design([seeds] * 5, [1.0] * 5, images, run_std=0.07, maps=maps, **effect)
    rng = np.random.default_rng([seeds, seed])
    return sum(
        any(re.search(pattern, line) for line in page(study(design, rng))) for _ in range(pages)
    )


def first_claim(of: Study, looks: Sequence[int], kind: str) -> int | None:
    """The number of seeds at which a page first makes a claim of this kind; None if at no look."""
    for seeds in looks:
        groups = {name: group[:seeds] for name, group in of.groups.items()}
        runs = tuple(run for group in groups.values() for run in group)
        if claims(page(dataclasses.replace(of, runs=runs, groups=groups)))[kind]:
            return seeds
    return None


def _share(count: int, pages: int) -> str:
    """Per cent, with its 95% interval (Clopper and Pearson)."""
    ends = stats.binomtest(count, pages).proportion_ci(method="exact")
    return f"{100 * count / pages:.1f} [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def print_null(pages: int, seed: int) -> None:
    """The table of false claims, and together those with four augmentations, by the number of seeds."""
    print("\n| seeds | augmentations | spread of seeds | " + " | ".join(CLAIMS) + " |")
    print("|" + "---|" * (3 + len(CLAIMS)))
    together: dict[str, dict[str, tuple[int, int]]] = {}
    for row, (title, design) in enumerate(null_designs()):
        count = count_claims(design, pages, [seed, row])
        possible = {k: design.maps > 0 or k != "moved further" for k in CLAIMS}
        without = "no verdict" if min(design.seeds) < 4 else "not simulated"
        cells = [_share(n, pages) if possible[k] else without for k, n in count.items()]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)
        seeds, augmentations, spread = title.split(" | ")
        if augmentations != "4" or spread not in spreads_of(4) or not seeds.isdigit():
            continue
        total = together.setdefault(seeds, dict.fromkeys(CLAIMS, (0, 0)))
        for k, n in count.items():
            if possible[k]:
                total[k] = total[k][0] + n, total[k][1] + pages
    spreads = f"**these four spreads, {len(spreads_of(4)) * pages:,} pages**"
    for seeds, total in together.items():
        cells = [_share(*total[k]) if total[k][1] else "no verdict" for k in CLAIMS]
        print(f"| {seeds} | 4 | {spreads} | {' | '.join(cells)} |")


def print_praise(pages: int, seed: int) -> None:
    """How often maps that know nothing are praised."""
    print("\n| 16 maps of noise, 100 images, rivals | praise in *Is the map true?* |")
    print("|---|---|")
    for row, beat in enumerate((("random", "centre", "edge"), ("random",))):
        rng = np.random.default_rng([seed, row])
        count = sum(praises(noise_maps(100, beat, rng), page) for page in range(pages))
        print(f"| {', '.join(beat)} | {_share(count, pages)} |", flush=True)


def print_power(pages: int, seed: int) -> None:
    """The table of true effects that are seen."""
    numbers = (2, 3, 4, 5, 8)
    print("\n| one of four augmentations | " + " | ".join(f"{n} seeds" for n in numbers) + " |")
    print("|" + "---|" * (1 + len(numbers)))
    for name, (effect, pattern) in EFFECTS.items():
        cells = [f"{100 * power(effect, pattern, n, pages, seed) / pages:.0f}" for n in numbers]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_looks(pages: int, seed: int) -> None:
    """Without an effect: how often a page claims a winner, by when one looks and stops."""
    design = Design([LOOKS[-1]] * 2, [1.0] * 2, corrupted=False)
    print("\n| looks at the report, until it names a winner | headline or ranking |")
    print("|---|---|")
    for looks in (LOOKS[-1:], LOOKS):
        rng = np.random.default_rng([seed, 0])  # the same studies
        kind = next(iter(CLAIMS))
        count = sum(first_claim(study(design, rng), looks, kind) is not None for _ in range(pages))
        print(f"| after {', '.join(map(str, looks))} seeds | {_share(count, pages)} |", flush=True)


TABLES = {"null": print_null, "praise": print_praise, "power": print_power, "looks": print_looks}


def main() -> None:
    parser = argparse.ArgumentParser(description="How often a page claims something.")
    parser.add_argument("tables", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--pages", type=int, default=100, help="simulated pages for each cell")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    given = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}; "
        f"{given.pages} pages a row; % of pages [95% interval]; simulation seed {given.seed}"
    )
    for table in given.tables:
        TABLES[table](given.pages, given.seed)


if __name__ == "__main__":
    main()
