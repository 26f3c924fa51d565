"""The checks on a finished run: all methods and layers, on its own test images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from augcam.errors import UserError, nearest
from augcam.explain.cam import METHODS
from augcam.explain.faithfulness import CHECKS
from augcam.explain.faithfulness.localisation import mosaics
from augcam.explain.faithfulness.maps import Explain, Stream, stream
from augcam.explain.faithfulness.measure import Measured, measure_faithfulness
from augcam.explain.rows import explain_images
from augcam.runs.finished_run import FinishedRun, untrained_network


def check_run(
    run: FinishedRun,
    checks: Sequence[str],
    *,
    layers: Sequence[str],
    samples: int,
    seed: int,
    progress: Progress,
) -> tuple[list[Measured], int, str]:
    """Measure the maps of every method at each layer on correctly classified test images.

    Args:
        checks: `("all",)`, or some of `CHECKS`.
        samples: images, or all if there are fewer.
        seed: of the choice of images and of everything else.
        progress: gets a task of its own.

    Returns:
        The measures, the number of images, and what localisation was measured on, in words.

    Raises:
        UserError: an unknown check, or fewer than ten images that are classified correctly.
    """
    if tuple(checks) == ("all",):
        checks = CHECKS
    for name in checks:
        if name not in CHECKS:
            raise UserError(f"check={name}: unknown; {nearest(name, ['all', *CHECKS])}")
    right = np.flatnonzero(run.predicted == run.labels)
    if len(right) < 10:
        raise UserError(f"only {len(right)} test images are classified correctly: too few to check")
    chosen = np.sort(stream(seed, Stream.IMAGES).permutation(right)[:samples])
    targets = torch.from_numpy(run.labels[chosen])
    inputs = run.normalize(run.images[chosen])
    explainers = {name: _explainer(name, layers) for name in METHODS}
    task = progress.add_task("checking the maps", total=None)

    def show(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    measured: list[Measured] = []
    others = tuple(check for check in checks if check != "localisation")
    if others:
        measured += measure_faithfulness(
            run.network, run.predict, explainers, inputs, targets.to(inputs.device),
            untrained=untrained_network(run, seed) if "sanity" in others else None,
            checks=others, seed=seed, progress=show,
        )  # fmt: skip
    if "localisation" in checks:
        progress.update(task, description="where they point")
        if run.masks is not None:
            images, masks, what = inputs, run.masks[chosen], targets
        else:
            made = mosaics(run.images[right], run.labels[right], count=samples, seed=seed)
            images, masks = run.normalize(made.images), made.masks
            what = torch.from_numpy(made.targets)
        measured += measure_faithfulness(
            run.network, run.predict, explainers, images, what.to(images.device),
            masks=masks, checks=("localisation",), seed=seed, progress=show,
        )  # fmt: skip
    where = "2x2 mosaics of test images" if run.masks is None else "the objects' own masks"
    return measured, len(chosen), where


def _explainer(method: str, layers: Sequence[str]) -> Explain:
    def maps_of(network: nn.Module, images: Tensor, targets: Tensor) -> Mapping[Any, Tensor]:
        maps = explain_images(network, images, targets, layers, method)
        return {layer: maps[layer].raw.relu() for layer in layers}

    return maps_of
