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
from augcam.explain.faithfulness.localisation import Mosaics, mosaics
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
        The measures, the number of images, and what localisation was measured on, in words, or that it
        was not.

    Raises:
        UserError: an unknown check, fewer than ten images that are classified correctly, or images that
            localisation cannot be measured on; where all is asked, that one is left out instead.
    """
    everything = tuple(checks) == ("all",)
    checks = CHECKS if everything else checks
    for name in checks:
        if name not in CHECKS:
            raise UserError(f"check={name}: unknown; {nearest(name, ['all', *CHECKS])}")
    right = np.flatnonzero(run.predicted == run.labels)
    if len(right) < 10:
        raise UserError(f"only {len(right)} test images are classified correctly: too few to check")
    chosen = np.sort(stream(seed, Stream.IMAGES).permutation(right)[:samples])
    where = "localisation was not asked for"
    objects: Mosaics | None = None
    if "localisation" in checks:  # refused now and not after minutes of the others
        try:
            where, objects = _with_objects(run, right, chosen, samples, seed)
        except UserError as error:
            if not everything:
                raise UserError(f"check=localisation: {error}") from None
            where = f"localisation is left out: {error}"
            progress.console.print(where, soft_wrap=True, markup=False, highlight=False)
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
    if objects is not None:
        progress.update(task, description="where they point")
        images, what = run.normalize(objects.images), torch.from_numpy(objects.targets)
        measured += measure_faithfulness(
            run.network, run.predict, explainers, images, what.to(images.device),
            masks=objects.masks, checks=("localisation",), seed=seed, progress=show,
        )  # fmt: skip
    return measured, len(chosen), where


def _with_objects(
    run: FinishedRun, right: np.ndarray, chosen: np.ndarray, samples: int, seed: int
) -> tuple[str, Mosaics]:
    """What localisation is measured on, in words, and the images whose object's place is known.

    Raises:
        UserError: there are none.
    """
    if run.masks is None:
        made = mosaics(run.images[right], run.labels[right], count=samples, seed=seed)
        return "localisation on 2x2 mosaics of test images", made
    masks = run.masks[chosen]
    if (empty := ~masks.any((1, 2))).any():
        raise UserError(
            f"the mask of test image {chosen[empty][0]} is empty: no object to point at"
        )
    known = Mosaics(run.images[chosen], run.labels[chosen], masks)
    return "localisation on the objects' own masks", known


def _explainer(method: str, layers: Sequence[str]) -> Explain:
    def maps_of(network: nn.Module, images: Tensor, targets: Tensor) -> Mapping[Any, Tensor]:
        maps = explain_images(network, images, targets, layers, method)
        return {layer: maps[layer].raw.relu() for layer in layers}

    return maps_of
