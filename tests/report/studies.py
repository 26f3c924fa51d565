"""Runs and studies in memory, with results that the test decides."""

from functools import cache

import numpy as np

from augcam.config.schema import Config, validate
from augcam.report.load import Predictions, Run, Study
from augcam.runs.run_folder import RunFolder
from tests.conftest import compose


@cache
def default_config() -> Config:
    return validate(compose())


def a_run(label, predicted, seed=1, group="none", **parts) -> Run:
    predictions = Predictions(
        np.asarray(label, np.uint16), np.asarray(predicted, np.uint16), np.full(len(label), 0.5)
    )
    optional = {"metrics": {}, "evaluation": None, "maps": None} | parts
    return Run(RunFolder(f"{group}{seed}"), default_config(), "finished", "", group, seed,
               predictions=predictions, **optional)  # fmt: skip


def a_study(groups: dict[str, list[Run]], classes=("bird", "cat", "dog"), baseline="none") -> Study:
    runs = tuple(run for group in groups.values() for run in group)
    kept = {label: tuple(group) for label, group in groups.items()}
    return Study(runs, kept, baseline, tuple(classes), [], {}, [])


def some_right(accuracies, images=1000, seed=0):
    """Runs (n, images) that are right on images of their own, as many as the accuracies say."""
    rng = np.random.default_rng(seed)
    hits = np.arange(images) < np.round(np.array(accuracies)[:, None] * images)
    return rng.permuted(hits, axis=1)


def runs_of(hits, group="none", first_seed=1):
    """Runs of two classes, the label always 1, right where `hits` (n, images) is true."""
    label = np.ones(hits.shape[1])
    return [a_run(label, row, first_seed + i, group) for i, row in enumerate(hits)]
