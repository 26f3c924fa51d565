"""Run folders as train.py and evaluate leave them, with results that the test decides."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from augcam.config.schema import validate
from augcam.runs.run_folder import RunFolder
from tests.conftest import compose

CLASSES = ["bird", "cat", "dog"]
LABEL = np.repeat(np.arange(3), 20)


@cache
def _composed(overrides: tuple[str, ...]) -> str:
    return OmegaConf.to_yaml(compose(overrides))


def write_run(
    folder: Path,
    *overrides: str,
    predicted: np.ndarray | None = None,
    label: np.ndarray = LABEL,
    classes: Sequence[str] = CLASSES,
    status: str = "finished",
) -> RunFolder:
    """A run folder of `train.py data=shapes OVERRIDES` that said `predicted` of the test images."""
    run = RunFolder(folder)
    # The name's resolver has nothing to read outside Hydra's main.
    tree: Any = OmegaConf.create(_composed(("data=shapes", "name=x", *overrides)))
    run.save_config(validate(tree), overrides)
    predicted = label if predicted is None else predicted
    confusion = np.zeros((len(classes),) * 2, int)
    np.add.at(confusion, (label, predicted), 1)
    accuracy = float((predicted == label).mean())
    run.write_metrics(
        {
            "status": status,
            "classes": list(classes),
            "test": {"accuracy": accuracy, "ece": 0.1, "confusion": confusion.tolist()},
            "history": [{"epoch": 1, "train/accuracy": 0.5, "val/accuracy": 0.6}],
        }
    )
    np.savez_compressed(
        run.predictions_file,
        label=label.astype(np.uint16),
        predicted=predicted.astype(np.uint16),
        confidence=np.full(len(label), 0.5, np.float16),
    )
    return run


def write_evaluation(
    run: RunFolder,
    maps: np.ndarray,
    *,
    layer: str = "layer4",
    probabilities: np.ndarray | None = None,
    corruptions: dict[str, list[float]] | None = None,
    label: np.ndarray = LABEL,
    samples: int = 200,
) -> None:
    """evaluation.json and .npz, of the first len(maps) test images with raw maps (n, h, w)."""
    n = len(maps)
    record = {
        "checkpoint": "last", "seed": 0, "images": n, "test_images": len(label), "layer": layer,
        "method": "gradcam", "accuracy": 0.9, "ece": 0.1, "degenerate": 0, "seconds": 1.0,
        "corruptions": corruptions or {"fog": [0.9, 0.8, 0.7, 0.6, 0.5]},
        "maps": {}, "environment": {}, "asked": {"samples": samples},
    }  # fmt: skip
    (run.path / "evaluation.json").write_text(json.dumps(record))
    np.savez_compressed(
        run.path / "evaluation.npz",
        index=np.arange(n, dtype=np.int32),
        label=label[:n].astype(np.uint16),
        probabilities=(np.full((n, 3), 1 / 3) if probabilities is None else probabilities).astype(
            np.float16
        ),
        map_true=maps.astype(np.float32),
    )


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 4, 4))
