"""Is the map true? Measures of activation maps, with baselines, intervals and a table of all.

A map is judged by what happens when the pixels it names are removed (insertion and deletion,
ROAD), when the image or the network changes (max-sensitivity, cascading randomisation) and by where
it points when the answer is known (localisation). Maps, networks and functions come as arguments.

Throughout, B is the number of images and N = H * W of their pixels. Measures come back as one
float64 per image, NaN where one is undefined. Equal values of a map are ordered at random by the
seed, the same way for every map of an image; a *degenerate* map (constant, or with a value that is
not finite) says nothing about any pixel and is ranked like a random one. Everything random follows
from the seed alone, whatever the batch; only new weights also depend on the kind of device.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.faithfulness.baselines import baselines, concentration
from augcam.explain.faithfulness.insertion import _insertions_deletions
from augcam.explain.faithfulness.localisation import energy_share, pointing_game
from augcam.explain.faithfulness.maps import (
    Explain,
    Maps,
    Predict,
    Progress,
    _check_images,
    _clean,
    _ranks,
    _resized,
)
from augcam.explain.faithfulness.randomisation import _cascade, _stages
from augcam.explain.faithfulness.road import ROAD_FRACTIONS, _roads
from augcam.explain.faithfulness.sensitivity import _max_sensitivities

CHECKS = (
    "concentration",
    "localisation",
    "insertion_deletion",
    "road",
    "max_sensitivity",
    "sanity",
)


# Which end of each measure speaks for a map. Concentration speaks neither for nor against one.
BETTER = {
    "localisation_pointing": "higher",
    "localisation_energy": "higher",
    "insertion": "higher",
    "deletion": "lower",
    "road": "higher",
    "road_morf": "lower",
    "road_lerf": "higher",
    "max_sensitivity": "lower",
    "sanity_spearman": "lower",
    "sanity_ssim": "lower",
}


_RESAMPLES = 2000


# A forward pass and a backward pass to the earliest layer, in forward passes: for progress alone.
_EXPLAIN_COST = 3


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean over images and its percentile bootstrap interval (Efron, 1979; 2,000 resamples).

    Args:
        values: (B,); NaN is left out.
        seed: of the resamples; the same for equally many values, so differences stay paired.
        level: of confidence, in (0, 1).

    Returns:
        The mean and the interval's ends; all NaN if no value is left.

    Raises:
        UserError: `level` out of range.
    """
    if not 0 < level < 1:
        raise UserError(f"level={level}: a confidence between 0 and 1 is needed, such as .95")
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[~np.isnan(finite)]
    if not len(finite):
        return Interval(math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    # In blocks of about a million draws: all at once, 10,000 images would take 320 MB.
    block = min(_RESAMPLES, max(1, 1_000_000 // len(finite)))
    means = np.concatenate(
        [
            finite[generator.integers(len(finite), size=(block, len(finite)))].mean(1)
            for _ in range(0, _RESAMPLES, block)
        ]
    )
    low, high = np.quantile(means[:_RESAMPLES], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(finite.mean()), float(low), float(high))


# ------------------------------------------------------------------------------ the table
def evaluate(
    model: nn.Module,
    predict: Predict,
    explainers: Mapping[str, Explain],
    images: Tensor,
    targets: Tensor,
    *,
    masks: Maps | None = None,
    checks: Sequence[str] | None = None,
    steps: int = 10,
    fractions: Sequence[float] = ROAD_FRACTIONS,
    radius: float = 0.1,
    samples: int = 5,
    seed: int = 0,
    batch: int = 128,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Every measure for every method and layer and for the baselines, as rows of a table.

    With B images, M methods, K maps of each image (methods x layers, and three baselines) and L
    children of the model, the network sees B times: M explanations for the maps, 3 + 2K (steps - 1)
    images for insertion and deletion, 2K images per ROAD fraction, M explanations per sample of
    max-sensitivity and M L for sanity. 200 images, 4 methods, 4 layers and the defaults: 69,000
    and 38,000 images, 4,000 and 5,600 explanations: 23 minutes at 100 images a second. Insertion
    and deletion set the bill: turn `steps` first, or give fewer images. Maps and ranks take about
    20 K bytes per pixel of each image: 80 MB there.

    Args:
        model: the network that the explainers explain; not modified.
        predict: images -> probabilities or scores (B, classes) of that network.
        explainers: method -> function of (network, images, targets) that returns, for each layer,
            maps (B, h, w), higher is more important, of the layer's own size or the image's.
            Measures of pixels see them at the image's size, enlarged bilinearly; max-sensitivity,
            sanity and concentration as they came. Methods must explain the network they are given.
        images: (B, 3, H, W) normalized. For mosaics: these, with `checks=("localisation",)`.
        targets: (B,) class indices.
        masks: (B, H, W) bool, for localisation.
        checks: some of `CHECKS`; None for all, localisation only if there are masks.
        steps: of insertion and deletion.
        fractions: of ROAD.
        radius: of max-sensitivity.
        samples: of max-sensitivity.
        seed: of everything random; two calls agree to the bit.
        batch: most images in one call of `predict` or of an explainer.
        progress: called after each batch with the work done and in all, in images through the
            network (an explanation counts as three).

    Returns:
        One row per method, layer and measure, the baselines last (`layer` is empty): `method`,
        `layer`, `measure`, `mean`, `low`, `high` (the 95% interval over images), `n` (images with
        a value), `degenerate` (maps that say nothing), and `over_random`, `over_random_low`,
        `over_random_high`: the mean difference to the random map *on the same images* and its
        interval. Images differ more than maps do, so this is what tells a map from chance.
        `BETTER` names the good end. `sanity_*` is with all layers random, `sanity_*/<layer>` with
        those from the head down to that one.

    Raises:
        UserError: an unknown check, no explainer, localisation without masks, shapes that do not
            fit, or a number out of range.
    """
    _check_images(images, targets)
    chosen = _chosen_checks(checks, masks)
    if not explainers:
        raise UserError("no explainers were given: one method at least is needed")
    height, width = images.shape[2:]
    work = _Work(progress)

    def explain(network: nn.Module, inputs: Tensor, baseline_seed: int) -> dict[Any, Maps]:
        """All maps of all images: (method, layer) -> (B, h, w)."""
        parts: dict[Any, list[np.ndarray]] = {}
        for method, explainer in explainers.items():
            for start in range(0, len(inputs), batch):
                part = slice(start, start + batch)
                for layer, maps in explainer(network, inputs[part], targets[part]).items():
                    parts.setdefault((method, layer), []).append(_compact(maps))
                work.add(_EXPLAIN_COST * len(inputs[part]))
        found: dict[Any, Maps] = {key: np.concatenate(several) for key, several in parts.items()}
        for name, maps in baselines(inputs, baseline_seed).items():
            found[name, ""] = maps
        return found

    def counted_predict(inputs: Tensor) -> Tensor:
        scores = predict(inputs)
        work.add(len(inputs))
        return scores

    # The random map is drawn anew for each explanation: it would be perfectly stable otherwise.
    baseline_seeds = itertools.count(seed * 1000)
    originals = {
        key: _clean(maps) for key, maps in explain(model, images, next(baseline_seeds)).items()
    }
    work.expect(
        len(images)
        * _cost(chosen, len(explainers), len(originals), model, steps, len(fractions), samples)
    )
    values: dict[Any, dict[str, np.ndarray]] = {key: {} for key in originals}
    if "concentration" in chosen:
        for key, (maps, _) in originals.items():
            values[key]["concentration"] = concentration(maps)
    full_size = {key: _resized(maps, height, width) for key, (maps, _) in originals.items()}
    if "localisation" in chosen and masks is not None:
        for key, maps in full_size.items():
            values[key]["localisation_pointing"] = pointing_game(maps, masks)
            values[key]["localisation_energy"] = energy_share(maps, masks)
    ranks = {key: _ranks(maps, seed) for key, maps in full_size.items()}
    del full_size
    if "insertion_deletion" in chosen:
        areas = _insertions_deletions(counted_predict, images, ranks, targets, steps, None, batch)
        for key, area in areas.items():
            values[key] |= {"insertion": area.insertion, "deletion": area.deletion}
    if "road" in chosen:
        roads = _roads(counted_predict, images, ranks, targets, fractions, 0.01, seed, batch)
        for key, scores in roads.items():
            values[key] |= {
                "road": scores.score,
                "road_morf": scores.morf.mean(1),
                "road_lerf": scores.lerf.mean(1),
            }
    if "max_sensitivity" in chosen:
        moved = _max_sensitivities(
            lambda noisy: explain(model, noisy, next(baseline_seeds)),
            images,
            originals,
            radius,
            samples,
            seed,
        )
        for key, worst in moved.items():
            values[key]["max_sensitivity"] = worst
    if "sanity" in chosen:
        cascade = _cascade(
            model,
            lambda network: explain(network, images, next(baseline_seeds)),
            {key: maps for key, (maps, _) in originals.items()},
            seed,
        )
        for key, likeness in cascade.similarity.items():
            values[key] |= {
                "sanity_spearman": likeness.spearman[-1],
                "sanity_ssim": likeness.ssim[-1],
            }
            for number, stage in enumerate(cascade.stages):
                values[key][f"sanity_spearman/{stage}"] = likeness.spearman[number]
                values[key][f"sanity_ssim/{stage}"] = likeness.ssim[number]
    return [
        _row(key, measure, per_image, values["random", ""][measure], originals[key][1], seed)
        for key, measures in values.items()
        for measure, per_image in measures.items()
    ]


class _Work:
    """Counts the images that went through the network, and tells."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.done, self.total = progress, 0, 0

    def expect(self, total: int) -> None:
        self.total = total
        self.add(0)

    def add(self, images: int) -> None:
        self.done += images
        # Silent until the number of maps, and with it the total, is known.
        if self.progress and self.total:
            self.progress(self.done, self.total)


def _chosen_checks(checks: Sequence[str] | None, masks: Maps | None) -> tuple[str, ...]:
    if checks is None:
        return tuple(check for check in CHECKS if masks is not None or check != "localisation")
    unknown = [check for check in checks if check not in CHECKS]
    if unknown:
        raise UserError(f"unknown checks: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    if "localisation" in checks and masks is None:
        raise UserError("localisation needs masks: true where the object is, one for each image")
    return tuple(checks)


def _cost(
    checks: Sequence[str],
    methods: int,
    maps: int,
    model: nn.Module,
    steps: int,
    fractions: int,
    samples: int,
) -> int:
    """Work per image, in images through the network."""
    explanations = 1
    predictions = 0
    if "insertion_deletion" in checks:
        predictions += 3 + 2 * maps * (steps - 1)
    if "road" in checks:
        predictions += 2 * maps * fractions
    if "max_sensitivity" in checks:
        explanations += samples
    if "sanity" in checks:
        explanations += len(_stages(model))
    return predictions + _EXPLAIN_COST * methods * explanations


def _compact(maps: Maps) -> np.ndarray:
    """On the host in float32, detached: what has to be held for every map at once."""
    if isinstance(maps, Tensor):
        maps = maps.detach().float().cpu().numpy()
    return np.asarray(maps, dtype=np.float32)


def _row(
    key: tuple[str, str],
    measure: str,
    values: np.ndarray,
    random_values: np.ndarray,
    useless: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    difference = interval(values - random_values, seed)
    return {
        "method": key[0],
        "layer": key[1],
        "measure": measure,
        **interval(values, seed)._asdict(),
        "n": int((~np.isnan(values)).sum()),
        "degenerate": int(useless.sum()),
        "over_random": difference.mean,
        "over_random_low": difference.low,
        "over_random_high": difference.high,
    }
