"""Does `augcam refine` find a planted pair, spare it and win? How often does it see what is not there?

    python bench/refine.py planted --repetitions 10 --seeds 16 --fresh 5
    python bench/refine.py null --repetitions 1000 --seeds 5
    python bench/refine.py power --repetitions 1000 --seeds 16

Planted: `data=shapes data.orientation_pair=true`, new images in every repetition. Rotation by up to 180
degrees makes the hourglass and the bowtie the same. The loop is the command's own, from folders that
are written like a sweep's; a network is a perceptron of one hidden layer of 64 on 16x16 pixels round
the shape (distance to the background's colour), so that a run takes half a second. Its augmentation is
the config's own pipeline.

Null: networks of one recipe, dealt at random to a baseline, to three augmentations and to the fresh
runs that the loop asks for, so that nothing has an effect; the loop's decisions are taken on their
counts. Two recipes: one epoch without augmentation,
and ten with the rotation, under which the accuracies of the pair jump from seed to seed.

Power: of studies of 3 seeds and more, dealt from 20 networks without augmentation and 40 with the
rotation, how many name the pair.

A find is right where exactly the pair is named; false, in the null, where any class is. Shares come with
their 95% interval (Clopper and Pearson).
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# The networks are small: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from augcam.config.compose import compose
from augcam.config.schema import Config, ShapesConfig, validate
from augcam.data.augment.build import build_pipeline
from augcam.data.datasets.shapes import Shapes
from augcam.data.splits import stratified_holdout
from augcam.errors import UserError
from augcam.refine.decisions import (
    Arms,
    Counts,
    class_differences,
    confirmation,
    helps,
    validation_counts,
)
from augcam.refine.loop import Outcome, refine
from augcam.runs.run_folder import RunFolder

SIDE, BATCH = 16, 100
PAIR = ("bowtie", "hourglass")
ROTATE = ("aug=rotate", "aug.rotate.limit=180", "aug.rotate.p=1")


@dataclass(frozen=True)
class Result:
    """What a run leaves: counts of validation images, rows by true class; test labels, answers."""

    confusion: np.ndarray
    label: np.ndarray
    predicted: np.ndarray


@cache
def config_of(overrides: tuple[str, ...], epochs: int) -> Config:
    """A run's config, of seed 1."""
    base = ("data=shapes", "data.orientation_pair=true", "data.train_size=3000", "data.test_size=1000",
            "data.holdout=1000", "model=resnet10", f"trainer.max_epochs={epochs}")  # fmt: skip
    return validate(compose([*base, *overrides]))


def with_seeds(config: Config, seed: int, data_seed: int) -> Config:
    """The same run with another seed on other images."""
    data = config.data.model_copy(update={"seed": data_seed})
    return config.model_copy(update={"seed": seed, "data": data})


@cache
def patches(seed: int, train_size: int, test_size: int) -> tuple[np.ndarray, ...]:
    """Training and test images as uint8 (N, 16, 16, 3), each followed by its labels."""
    source = Shapes(seed, train_size, test_size, orientation_pair=True)
    parts: list[np.ndarray] = []
    for images in (source.train(), source.test()):
        assert images.masks is not None
        pairs = zip(images.images[:], images.masks, strict=True)
        parts += [np.stack([patch(*pair) for pair in pairs]), np.asarray(images.labels)]
    return tuple(parts)


def patch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What is round the shape, centred and of one size: distance to the background's mean colour."""
    rows, columns = np.nonzero(mask)
    y, x = rows.mean(), columns.mean()
    scale = (SIDE / 2 - 0.5) / (np.hypot(rows - y, columns - x).max() + 0.5)
    distance = np.linalg.norm(image - image[~mask].mean(0), axis=2)
    grey = np.clip(128 * distance / distance[mask].mean(), 0, 255).astype(np.uint8)
    middle = SIDE / 2 - 0.5
    move = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    small = cv2.warpAffine(grey, move, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    return np.repeat(small[..., None], 3, axis=2)


def trained(config: Config) -> Result:
    """A network trained as the config's augmentation, epochs and seed say."""
    data = config.data
    assert isinstance(data, ShapesConfig)
    assert isinstance(data.holdout, int)
    images, labels, test_images, test_labels = patches(data.seed, data.train_size, data.test_size)
    train, val = stratified_holdout(labels, data.holdout, config.seed)
    classes = Shapes(orientation_pair=True).classes
    pipeline = build_pipeline(config.aug, config.seed, classes=lambda: classes)
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    network = nn.Sequential(nn.Linear(SIDE**2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                            nn.Linear(64, len(classes)))  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters())
    steps = len(train) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.005, total_steps=config.trainer.max_epochs * steps
    )
    for epoch in range(config.trainer.max_epochs):
        seen = images[train]
        if pipeline.transforms:
            pipeline.batch(seen, epoch, np.arange(len(train)), labels[train])
        inputs, order = as_inputs(seen), random.permutation(len(train))
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            loss = F.cross_entropy(network(inputs[rows]), torch.from_numpy(labels[train][rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        on_val, on_test = (
            network(as_inputs(p)).argmax(1).numpy() for p in (images[val], test_images)
        )
    return Result(confusion(labels[val], on_val, len(classes)), test_labels, on_test)


def as_inputs(images: np.ndarray) -> torch.Tensor:
    """Patches as the network takes them: float (N, 256)."""
    return torch.from_numpy(images[..., 0].reshape(len(images), -1)).float() / 128 - 1


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, rows are the true classes."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (label, predicted), 1)
    return counts


def write(folder: RunFolder, result: Result) -> None:
    """What `augcam train` would leave of it."""
    classes = Shapes(orientation_pair=True).classes

    def split(counts: np.ndarray) -> dict[str, Any]:
        return {
            "accuracy": float(np.trace(counts) / counts.sum()), "loss": 0.0, "ece": 0.0,
            "confusion": counts.tolist(),
        }  # fmt: skip

    tested = confusion(result.label, result.predicted, len(classes))
    np.savez(
        folder.predictions_file, label=result.label.astype(np.uint16),
        predicted=result.predicted.astype(np.uint16),
        confidence=np.ones(len(result.label), np.float16),
    )  # fmt: skip
    folder.write_metrics(
        {
            "status": "finished", "seed": folder.config().seed, "classes": list(classes),
            "val": split(result.confusion), "test": split(tested),
        }
    )  # fmt: skip


def loop(
    study: Sequence[tuple[str, Config]],
    seeds: int,
    fresh: int,
    data_seed: int,
    train: Callable[[RunFolder], None],
) -> Outcome | None:
    """The command's loop over a new study; None where it hurts nobody that could be spared."""
    with tempfile.TemporaryDirectory() as place:
        sweep = Path(place, "sweep")
        for name, config in study:
            for seed in range(1, seeds + 1):
                folder = RunFolder(sweep / f"aug={name},seed={seed}")
                folder.save_config(with_seeds(config, seed, data_seed))
                train(folder)
        try:
            return refine(sweep, Path(place, "refined"), train, lambda _: None, seeds=fresh)
        except UserError:
            return None


def planted(repetitions: int, seeds: int, fresh: int) -> Iterator[str]:
    """The table of the planted pair."""
    study = [("none", config_of(("aug=none",), 10)), ("rotate", config_of(ROTATE, 10))]
    outcomes = []
    for repetition in range(repetitions):
        outcome = loop(
            study, seeds, fresh, repetition, lambda folder: write(folder, trained(folder.config()))
        )
        outcomes.append(outcome)
        found = sorted(row["class"] for row in outcome.plan.hurt) if outcome else []
        gains = outcome.test if outcome else []
        print(repetition, found, [f"{100 * one.mean:+.1f}" for one in gains], flush=True)
    known = [outcome for outcome in outcomes if outcome]
    rows = {
        "the pair is named": [{*PAIR} <= {row["class"] for row in o.plan.hurt} for o in known],
        "the pair alone is named": [
            {*PAIR} == {row["class"] for row in o.plan.hurt} for o in known
        ],
        "confirmed with fresh seeds": [o.chosen is not None for o in known],
        "named, spared and wins": [
            o.won and o.chosen is not None and {*PAIR} <= {*o.chosen.hurt} for o in known
        ],
    }
    yield from table(rows, repetitions)
    compared = [
        f"{images}, against {name}" for images in ("the pair", "all") for name in ("rotate", "none")
    ]
    for number, words in enumerate(compared):
        points = [100 * o.test[number].mean for o in known if o.test]
        if points:
            yield f"| {words}, points on the test set | {np.mean(points):+.1f} +- {np.std(points):.1f} |"


def null(repetitions: int, seeds: int, _: int) -> Iterator[str]:
    """The tables of studies in which nothing has an effect."""
    classes = Shapes(orientation_pair=True).classes
    recipes = {
        "one epoch, no augmentation": (("aug=none",), 1),
        "ten epochs of rotation": (ROTATE, 10),
    }
    for title, recipe in recipes.items():
        pool = [trained(with_seeds(config_of(*recipe), seed, 0)) for seed in range(11 * seeds)]
        counts = validation_counts([{"val": {"confusion": one.confusion.tolist()}} for one in pool])
        accuracy = (counts[0] / counts[1]).mean(0)
        random = np.random.default_rng(0)
        named, confirmed = [], []
        for _ in range(repetitions):
            hands = iter(random.permutation(len(pool)).reshape(-1, seeds))
            groups = {name: deal(counts, hands) for name in ("none", "flip", "cutout", "rotate")}
            hurt = class_differences(groups, "none", classes).hurt
            named.append(bool(hurt))
            fresh = {name: deal(counts, hands) for name in ("none", *hurt)}
            arms = {
                name: Arms(
                    deal(counts, hands), fresh[name], fresh["none"], [*map(classes.index, names)]
                )
                for name, names in hurt.items()
            }
            confirmed.append(any(helps(one) for one in confirmation(arms).values()))
        yield f"{title}: {len(pool)} networks, classes from {accuracy.min():.0%} to {accuracy.max():.0%}"
        yield from table(
            {"any class is named": named, "sparing is confirmed": confirmed}, repetitions
        )


def power(repetitions: int, seeds: int, _: int) -> Iterator[str]:
    """How often a study of so many seeds names the pair: dealt from networks that were trained once."""
    classes = Shapes(orientation_pair=True).classes
    pools = {}
    for name, recipe, size in (("none", ("aug=none",), 20), ("rotate", ROTATE, 40)):
        pool = [trained(with_seeds(config_of(recipe, 10), seed, 0)) for seed in range(size)]
        pools[name] = validation_counts(
            [{"val": {"confusion": r.confusion.tolist()}} for r in pool]
        )
    random = np.random.default_rng(0)
    for number in range(3, seeds + 1):
        named = []
        for _ in range(repetitions):
            groups = {
                name: deal(counts, iter([random.permutation(len(counts[0]))[:number]]))
                for name, counts in pools.items()
            }
            hurt = class_differences(groups, "none", classes).hurt.get("rotate", ())
            named.append({*hurt})
        rows = {
            f"{number} seeds: one of the pair is named": [bool({*PAIR} & one) for one in named],
            f"{number} seeds: both are": [{*PAIR} <= one for one in named],
        }
        yield from table(rows, repetitions)


def deal(counts: Counts, hands: Iterator[np.ndarray]) -> Counts:
    """The counts of the networks in the next hand."""
    hand = next(hands)
    return counts[0][hand], counts[1][hand]


def table(rows: dict[str, list[bool]], n: int) -> Iterator[str]:
    """Shares of so many repetitions, in percent."""
    yield f"| of {n} repetitions | % |"
    yield "|---|---|"
    for words, hits in rows.items():
        k = sum(hits)
        ends = stats.binomtest(k, n).proportion_ci(method="exact")
        yield f"| {words} | {100 * k / n:.1f} [{100 * ends.low:.1f}, {100 * ends.high:.1f}] |"


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("planted", "null", "power"))
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--fresh", type=int, default=10, help="seeds of the confirmation (planted)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    tables = {"planted": planted, "null": null, "power": power}
    for line in tables[asked.what](asked.repetitions, asked.seeds, asked.fresh):
        print(line)
    print(f"{time.process_time() - began:.0f} s of CPU, {asked.seeds} seeds")


if __name__ == "__main__":
    main()
