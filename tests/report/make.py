"""Sweeps as train.py and augcam.evaluate leave them, made up from seeded random numbers in no time.

Every image has a difficulty, every augmentation a skill and an effect on each class: what the report
should find is known. The data are shapes, so that the test images can be shown.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from scipy.special import softmax

from augcam.config.schema import validate
from augcam.data.corruptions import CORRUPTIONS
from augcam.data.datasets.shapes import CLASSES, draw
from augcam.runs.run_folder import RunFolder
from tests.conftest import compose

# How far an augmentation shifts the accuracy, and which classes it helps or hurts: in units of the
# standard deviation of the images' difficulty.
EFFECTS: dict[str, tuple[float, dict[str, float]]] = {
    "none": (0.0, {}),
    "flip": (0.12, {"heart": 0.25}),
    "crop_flip": (0.15, {}),
    "cutout": (0.3, {"star": 0.5, "arrow": -0.6}),
    "rotate": (-0.15, {"arrow": -0.4}),
    "blur": (-0.3, {"ring": 0.5}),
}


def make_sweep(
    folder: Path,
    augs: Sequence[str] = ("none", "flip", "cutout"),
    seeds: Sequence[int] = (1, 2, 3),
    test_size: int = 300,
    epochs: int = 4,
    evaluated: int = 60,
    overrides: Sequence[str] = (),
) -> list[RunFolder]:
    """A finished sweep; `evaluated` images a run have maps, 0 leaves the evaluation out."""
    return [
        make_run(
            folder / f"aug={aug},seed={seed}", aug, seed, test_size, epochs, evaluated, overrides
        )
        for aug in augs
        for seed in seeds
    ]


def make_run(
    path: Path,
    aug: str,
    seed: int,
    test_size: int = 300,
    epochs: int = 4,
    evaluated: int = 60,
    overrides: Sequence[str] = (),
) -> RunFolder:
    """One finished run and its evaluation."""
    folder = make_started(path, aug, seed, test_size, epochs, overrides)
    skill, by_class = EFFECTS.get(aug, (0.1, {}))
    _, label, masks = _test_set(test_size)
    random = np.random.default_rng([seed, *aug.encode()])
    margin = _margins(label, skill, by_class, random)
    predicted = _predicted(label, margin, random)
    # Wrong ones are less sure.
    confidence = np.clip(0.4 + np.where(margin > 0, 0.5, 0.2) * np.abs(margin), 0.2, 0.995)
    test = _split(label, predicted, skill)
    val_label = label[: max(20, test_size // 2)]
    val = _split(
        val_label,
        _predicted(val_label, _margins(val_label, skill, by_class, random), random),
        skill,
    )
    seconds = 3.0 + len(by_class) + 0.2 * random.random()
    folder.write_metrics(
        {
            "status": "finished", "name": aug, "seed": seed, "epochs": epochs, "params": 78_002,
            "aug": aug, "data": "shapes", "model": "resnet10", "classes": list(CLASSES),
            "val": val, "test": test, "wall_seconds": seconds * epochs + 2.5,
            "train_images_per_second": 700.0 - 20 * len(by_class),
            "environment": {
                "python": "3.11.7", "torch": "2.15.0", "pytorch_lightning": "2.6.6",
                "albumentations": "2.0.8", "cores": 2, "torch_threads": 2, "device": "cpu",
                "devices": 1, "precision": "32-true", "channels_last": True, "num_workers": 0,
            },
            "config": folder.config().model_dump(mode="json", by_alias=True),
            "history": _history(epochs, val["accuracy"], skill, seconds, random),
        }
    )  # fmt: skip
    np.savez_compressed(
        folder.predictions_file,
        label=label.astype(np.uint16),
        predicted=predicted.astype(np.uint16),
        confidence=confidence.astype(np.float16),
    )
    if evaluated:
        _evaluate(folder, label, predicted, confidence, masks, evaluated, aug, skill, random)
    return folder


def make_started(
    path: Path,
    aug: str,
    seed: int,
    test_size: int = 300,
    epochs: int = 4,
    overrides: Sequence[str] = (),
) -> RunFolder:
    """A run that has begun and left nothing but its config and its log."""
    folder = RunFolder(path)
    asked = ("data=shapes", f"data.test_size={test_size}", "data.train_size=600",
             "data.holdout=100", "model=resnet10", "model.width=8", f"trainer.max_epochs={epochs}",
             *overrides)  # fmt: skip
    tree: Any = OmegaConf.create(_composed((f"aug={aug}", f"name={aug}", *asked)))
    tree.seed = seed
    folder.save_config(validate(tree))
    written = OmegaConf.to_yaml(OmegaConf.create([f"aug={aug}", f"seed={seed}", *asked]))
    (path / ".hydra" / "overrides.yaml").write_text(written)
    (path / "train.log").write_text("run\n")
    return folder


@cache
def _composed(overrides: tuple[str, ...]) -> str:
    return OmegaConf.to_yaml(compose(overrides))


@cache
def _test_set(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return draw("test", 0, size)


def _margins(
    label: np.ndarray, skill: float, by_class: Mapping[str, float], random: np.random.Generator
) -> np.ndarray:
    """By how much each image is right: the difficulty is the images' own, the rest the run's."""
    difficulty = np.random.default_rng(len(label)).normal(size=len(label))
    effect = np.array([by_class.get(name, 0.0) for name in CLASSES])[label]
    seed_to_seed = random.normal(scale=0.03) + random.normal(scale=0.5, size=len(label))
    return 0.7 + skill + effect - difficulty + seed_to_seed


def _predicted(label: np.ndarray, margin: np.ndarray, random: np.random.Generator) -> np.ndarray:
    near = (label + 1) % len(CLASSES)
    far = (label + random.integers(1, len(CLASSES), size=len(label))) % len(CLASSES)
    wrong = np.where(random.random(len(label)) < 0.6, near, far)
    return np.where(margin > 0, label, wrong)


def _split(label: np.ndarray, predicted: np.ndarray, skill: float) -> dict:
    confusion = np.zeros((len(CLASSES),) * 2, int)
    np.add.at(confusion, (label, predicted), 1)
    accuracy = float((label == predicted).mean())
    return {
        "accuracy": accuracy, "ece": 0.05 + 0.02 * abs(skill), "top5": 0.5 + accuracy / 2,
        "loss": 2 * (1 - accuracy),
        "accuracy_per_class": {
            name: confusion[i, i] / max(1, confusion[i].sum()) for i, name in enumerate(CLASSES)
        },
        "confusion": confusion.tolist(),
    }  # fmt: skip


def _history(
    epochs: int, final: float, skill: float, seconds: float, random: np.random.Generator
) -> list[dict[str, float]]:
    share = 1 - np.exp(-3.5 * np.arange(1, epochs + 1) / epochs)
    share /= share[-1]
    val = 0.1 + (final - 0.1) * share + random.normal(scale=0.008, size=epochs) * (share < 1)
    train = 0.1 + (final + random.normal(0.12 - 0.3 * max(skill, 0), 0.01) - 0.1) * share
    return [
        {
            "epoch": i + 1, "train/loss": 2 * (1 - train[i]), "train/accuracy": train[i],
            "val/accuracy": val[i], "val/loss": 2 * (1 - val[i]), "wall_seconds": seconds * (i + 1),
        }
        for i in range(epochs)
    ]  # fmt: skip


def _evaluate(
    folder: RunFolder,
    label: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    masks: np.ndarray,
    count: int,
    aug: str,
    skill: float,
    random: np.random.Generator,
) -> None:
    index = np.sort(np.random.default_rng(0).permutation(len(label))[:count])
    logits = random.normal(size=(count, len(CLASSES)))
    probabilities = softmax(logits, axis=1)
    rows = np.arange(count)
    probabilities *= ((1 - confidence[index]) / (1 - probabilities[rows, predicted[index]]))[
        :, None
    ]
    probabilities[rows, predicted[index]] = confidence[index]
    # Where the object is, in 4x4 cells, moved by the augmentation; on the network's own scale.
    cells = masks[index].reshape(count, 4, 8, 4, 8).mean(axis=(2, 4))
    moved = np.roll(cells, len(aug) % 3, axis=2)
    scale = random.uniform(0.5, 4)
    maps = scale * (0.6 * cells + 0.4 * moved + random.normal(scale=0.12, size=cells.shape) - 0.05)
    accuracy = float((label == predicted)[index].mean())
    hard = np.linspace(0.5, 1.2, len(CORRUPTIONS))
    record = {
        "checkpoint": "last", "seed": 0, "images": count, "test_images": len(label),
        "layer": "layer4", "method": "gradcam", "accuracy": accuracy, "ece": 0.06,
        "corruptions": {
            name: [
                float(np.clip(accuracy - hard[i] * s * (0.09 - 0.02 * skill), 0.05, 1))
                for s in range(1, 6)
            ]
            for i, name in enumerate(CORRUPTIONS)
        },
        "maps": {
            name: {"mean": mean, "low": mean - 0.03, "high": mean + 0.03, "n": count}
            for name, mean in (
                ("insertion", 0.55 + 0.1 * skill + 0.01 * random.normal()),
                ("deletion", 0.3 - 0.1 * skill + 0.01 * random.normal()),
                ("concentration", 0.45 + 0.05 * skill + 0.01 * random.normal()),
            )
        },
        "degenerate": 0, "seconds": 12.0, "environment": {"device": "cpu", "torch": "2.15.0"},
    }  # fmt: skip
    (folder.path / "evaluation.json").write_text(json.dumps(record))
    np.savez_compressed(
        folder.path / "evaluation.npz",
        index=index.astype(np.int32),
        label=label[index].astype(np.uint16),
        probabilities=probabilities.astype(np.float16),
        map_true=maps.astype(np.float32),
    )
