"""Every measure for every method and layer, image by image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.faithfulness import CHECKS
from augcam.explain.faithfulness.baselines import IMAGE_BASELINES, shuffled
from augcam.explain.faithfulness.concentration import concentration
from augcam.explain.faithfulness.insertion import insertion_deletion
from augcam.explain.faithfulness.localisation import energy_share, pointing_game
from augcam.explain.faithfulness.maps import (
    Explain,
    MapArray,
    Predict,
    Progress,
    check_images,
    cleaned,
    enlarged,
    pixel_ranks,
)
from augcam.explain.faithfulness.randomisation import cascading_randomisation, stages_of
from augcam.explain.faithfulness.road import ROAD_FRACTIONS, road
from augcam.explain.faithfulness.sensitivity import max_sensitivity
from augcam.statistics.intervals import bootstrap_interval

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

# A forward pass and a backward pass to the earliest layer, in forward passes: for progress alone.
_EXPLAIN_COST = 3


@dataclass(frozen=True)
class Measured:
    """One measure of one map on each of B images.

    Attributes:
        method: of the explanation, or the name of an image baseline.
        layer: where the map is from; empty for a map that knows nothing of the network.
        measure: `BETTER` names the good end.
        values: (B,) float64; NaN where the measure is undefined, as for a degenerate map.
        random: (B,) the same measure of the map with its cells in random places (`shuffled`); None
            where places do not matter to the measure, and for maps that know nothing.
        degenerate: maps that say nothing, of the B.
    """

    method: str
    layer: str
    measure: str
    values: np.ndarray
    random: np.ndarray | None
    degenerate: int

    def row(self, seed: int = 0) -> dict[str, Any]:
        """A row of the table: means over images with their 95% bootstrap intervals.

        `n` counts the images with a value. `over_random` is the mean difference to the map's own
        random map on the same images, None where there is none.
        """
        row: dict[str, Any] = {"method": self.method, "layer": self.layer, "measure": self.measure}
        row |= _json(bootstrap_interval(self.values, seed)._asdict())
        row |= {"n": int((~np.isnan(self.values)).sum()), "degenerate": self.degenerate}
        over = np.array([np.nan]) if self.random is None else self.values - self.random
        mean, low, high = bootstrap_interval(over, seed)
        return row | _json({"over_random": mean, "over_random_low": low, "over_random_high": high})


def _json(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def measure_faithfulness(
    model: nn.Module,
    predict: Predict,
    explainers: Mapping[str, Explain],
    images: Tensor,
    targets: Tensor,
    *,
    masks: MapArray | None = None,
    untrained: nn.Module | None = None,
    checks: Sequence[str] | None = None,
    steps: int = 10,
    fractions: Sequence[float] = ROAD_FRACTIONS,
    radius: float = 0.1,
    samples: int = 5,
    seed: int = 0,
    batch: int = 128,
    progress: Progress | None = None,
) -> list[Measured]:
    """Every measure for every method and layer, for the same maps shuffled, and for two baselines.

    With B images, M methods, K maps of each image (methods x layers) and L children of the model,
    the network sees B times: M explanations for the maps, 3 + 2 (2K + 2) (steps - 1) images for
    insertion and deletion, 2 (2K + 2) images per ROAD fraction, M explanations per sample of
    max-sensitivity and M L for sanity. 100 images, 4 methods, 4 layers and the defaults: 61,500 and
    34,000 images, 2,000 and 2,800 explanations. Insertion and deletion set the bill: turn `steps`
    first, or give fewer images. Maps and ranks take about 30 K bytes per pixel of each image.

    Args:
        model: the network that the explainers explain; not modified.
        predict: images -> probabilities or scores (B, classes) of that network.
        explainers: method -> function of (network, images, targets) that returns, for each layer,
            maps (B, h, w), higher is more important, of the layer's own size or the image's.
            Measures of pixels take them at the image's size, enlarged bilinearly; max-sensitivity,
            sanity and concentration as they came. Methods must explain the network they are given.
        images: (B, 3, H, W) normalized. For mosaics: these, with `checks=("localisation",)`.
        targets: (B,) class indices.
        masks: (B, H, W) bool, for localisation.
        untrained: the network as its training started, for sanity; see `cascading_randomisation`.
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
        One for each method, layer and measure, the image baselines last. `sanity_*` is with all
        layers random, `sanity_*/<layer>` with those from the head down to that one.

    Raises:
        UserError: an unknown check, no explainer, localisation without masks, sanity without an
            untrained network, shapes that do not
            fit, or a number out of range.
    """
    check_images(images, targets)
    chosen = _chosen_checks(checks, masks, untrained)
    if not explainers:
        raise UserError("no explainers were given: one method at least is needed")
    height, width = images.shape[2:]
    work = _Work(progress)

    def explain(network: nn.Module, inputs: Tensor) -> dict[Any, MapArray]:
        """All maps of all images: (method, layer) -> (B, h, w)."""
        parts: dict[Any, list[np.ndarray]] = {}
        for method, explainer in explainers.items():
            for start in range(0, len(inputs), batch):
                part = slice(start, start + batch)
                for layer, maps in explainer(network, inputs[part], targets[part]).items():
                    parts.setdefault((method, layer), []).append(_compact(maps))
                work.add(_EXPLAIN_COST * len(inputs[part]))
        found: dict[Any, MapArray] = {
            key: np.concatenate(several) for key, several in parts.items()
        }
        return found | {(name, ""): draw(inputs) for name, draw in IMAGE_BASELINES.items()}

    def counted_predict(inputs: Tensor) -> Tensor:
        scores = predict(inputs)
        work.add(len(inputs))
        return scores

    originals = {key: cleaned(maps) for key, maps in explain(model, images).items()}
    # Everything that has an order of pixels: each map, and (key, True) the same with its cells in
    # random places.
    full_size = {
        (key, False): enlarged(maps, height, width) for key, (maps, _) in originals.items()
    }
    full_size |= {
        (key, True): enlarged(shuffled(maps, seed), height, width)
        for key, (maps, _) in originals.items()
        if key[1]
    }
    work.expect(
        len(images)
        * _cost(chosen, len(explainers), len(full_size), model, steps, len(fractions), samples)
    )
    values: dict[Any, dict[str, np.ndarray]] = {key: {} for key in full_size}
    if "concentration" in chosen:
        for key, (maps, _) in originals.items():
            values[key, False]["concentration"] = concentration(maps)
    if "localisation" in chosen and masks is not None:
        for which, maps in full_size.items():
            values[which]["localisation_pointing"] = pointing_game(maps, masks)
            values[which]["localisation_energy"] = energy_share(maps, masks)
    ranks = {which: pixel_ranks(maps, seed) for which, maps in full_size.items()}
    del full_size
    if "insertion_deletion" in chosen:
        areas = insertion_deletion(
            counted_predict, images, ranks, targets, steps=steps, batch=batch
        )
        for which, area in areas.items():
            values[which] |= {"insertion": area.insertion, "deletion": area.deletion}
    if "road" in chosen:
        removals = road(
            counted_predict, images, ranks, targets, fractions=fractions, seed=seed, batch=batch
        )
        for which, scores in removals.items():
            values[which] |= {
                "road": scores.score,
                "road_morf": scores.morf.mean(1),
                "road_lerf": scores.lerf.mean(1),
            }
    if "max_sensitivity" in chosen:
        moved = max_sensitivity(
            lambda noisy: explain(model, noisy),
            images,
            originals,
            radius=radius,
            samples=samples,
            seed=seed,
        )
        for key, worst in moved.items():
            values[key, False]["max_sensitivity"] = worst
    if untrained is not None and "sanity" in chosen:
        fallen = cascading_randomisation(
            model,
            lambda network: explain(network, images),
            {key: maps for key, (maps, _) in originals.items()},
            untrained,
        )
        for key, likeness in fallen.similarity.items():
            values[key, False] |= {
                "sanity_spearman": likeness.spearman[-1],
                "sanity_ssim": likeness.ssim[-1],
            }
            for number, stage in enumerate(fallen.stages):
                values[key, False][f"sanity_spearman/{stage}"] = likeness.spearman[number]
                values[key, False][f"sanity_ssim/{stage}"] = likeness.ssim[number]
    return [
        Measured(
            method=key[0],
            layer=key[1],
            measure=measure,
            values=per_image,
            random=values.get((key, True), {}).get(measure),
            degenerate=int(useless.sum()),
        )
        for key, (_, useless) in originals.items()
        for measure, per_image in values[key, False].items()
    ]


class _Work:
    """Counts the images that went through the network, and passes the count on."""

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


def _chosen_checks(
    checks: Sequence[str] | None, masks: MapArray | None, untrained: nn.Module | None
) -> tuple[str, ...]:
    if checks is None:
        checks = [check for check in CHECKS if masks is not None or check != "localisation"]
    unknown = [check for check in checks if check not in CHECKS]
    if unknown:
        raise UserError(f"unknown checks: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    if "localisation" in checks and masks is None:
        raise UserError("localisation needs masks: true where the object is, one for each image")
    if "sanity" in checks and untrained is None:
        raise UserError("sanity needs the untrained network: what the weights were before training")
    return tuple(checks)


def _cost(
    checks: Sequence[str],
    methods: int,
    orders: int,
    model: nn.Module,
    steps: int,
    fractions: int,
    samples: int,
) -> int:
    """Work per image, in images through the network."""
    explanations = 1
    predictions = 0
    if "insertion_deletion" in checks:
        predictions += 3 + 2 * orders * (steps - 1)
    if "road" in checks:
        predictions += 2 * orders * fractions
    if "max_sensitivity" in checks:
        explanations += samples
    if "sanity" in checks:
        explanations += len(stages_of(model))
    return predictions + _EXPLAIN_COST * methods * explanations


def _compact(maps: MapArray) -> np.ndarray:
    """On the host in float32, detached: what has to be held for every map at once."""
    if isinstance(maps, Tensor):
        maps = maps.detach().float().cpu().numpy()
    return np.asarray(maps, dtype=np.float32)
