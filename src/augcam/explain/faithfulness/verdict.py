"""Which map to believe, in sentences whose error rate is known.

Sixteen maps of pure noise have a best one, too. So a map is praised only where it beats, image by
image, *everything* that knows nothing of the network - its own cells in random places, a Gaussian
about the centre, the image's edges - after a correction for how many maps and questions there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from augcam.explain.faithfulness.measure import BETTER, Measured
from augcam.statistics import LEVEL
from augcam.statistics.families import holm
from augcam.statistics.intervals import bootstrap_interval
from augcam.statistics.paired import sign_flip_test

Key = tuple[str, str]
"""A map: its method and its layer."""

# A map that still ranks the cells alike when every weight is random shows the image, not the network
# (Adebayo et al., NeurIPS 2018, who give no threshold; this one is ours).
KEEPS_ITS_PICTURE = 0.3

# What is asked of a map, for one of them and for several.
QUESTIONS = {
    "localisation_pointing": ("points at the object", "point at the object"),
    "road": (
        "names the pixels that the answer rests on",
        "name the pixels that the answer rests on",
    ),
}


class Sentence(NamedTuple):
    """One sentence of the verdict, what it does to a map's name, and whether a page opens with it."""

    kind: Literal["praise", "no praise", "distrust"]
    text: str
    leads: bool = False


@dataclass(frozen=True)
class Comparison:
    """The maps under one measure.

    Attributes:
        images: that were compared.
        p: for each map, the corrected p-value of "better than all that knows nothing".
        better: the maps where that is below `LEVEL` and which depend on the network, best mean
            first.
        p_of_lead: for each other map, the corrected p-value of a difference to the first of
            `better`; empty where there is none.
    """

    images: int
    p: Mapping[Key, float]
    better: Sequence[Key]
    p_of_lead: Mapping[Key, float]

    @property
    def leaders(self) -> list[Key]:
        """The best map, and those of `better` that cannot be told from it."""
        return [k for k in self.better if k not in self.p_of_lead or self.p_of_lead[k] > LEVEL]

    @property
    def has_one_best(self) -> bool:
        """Whether the first of `better` differs from every other map."""
        return bool(self.better) and all(p <= LEVEL for p in self.p_of_lead.values())


def independent_of_weights(measured: Sequence[Measured], seed: int = 0) -> list[Key]:
    """The maps whose rank correlation with those of a random network is above `KEEPS_ITS_PICTURE`.

    One-sided sign-flip tests, Holm over the maps.
    """
    sanity = {
        (m.method, m.layer): m.values
        for m in measured
        if m.layer and m.measure == "sanity_spearman"
    }
    if not sanity:
        return []
    above = np.stack(list(sanity.values()), axis=1) - KEEPS_ITS_PICTURE
    p = holm(sign_flip_test(above, "greater", seed))
    return [key for key, one in zip(sanity, p, strict=True) if one <= LEVEL]


def compare(measured: Sequence[Measured], seed: int = 0) -> dict[str, Comparison]:
    """Compare the maps under each of `QUESTIONS` that was measured.

    A map is better than all that knows nothing if it is so in each of three one-sided paired tests:
    the largest of the three p-values is that of the union of their null hypotheses (Berger, 1982).
    Holm's correction is over all maps under all questions, so that of pages whose maps know nothing
    at most 5% call even one map better. The first of the better ones is then compared with every
    other map, two-sided, Holm again.

    Args:
        measured: by `measure_faithfulness`, of one set of images for each measure.
        seed: of the tests' random signs.
    """
    useless = independent_of_weights(measured, seed)
    values: dict[str, dict[Key, np.ndarray]] = {}
    above: dict[str, dict[Key, np.ndarray]] = {}
    for question in QUESTIONS:
        ours = [m for m in measured if m.measure == question and m.layer]
        free = [_oriented(m.values, question) for m in measured
                if m.measure == question and not m.layer]  # fmt: skip
        for m in ours:
            own = [] if m.random is None else [_oriented(m.random, question)]
            good = _oriented(m.values, question)
            differences = [good - other for other in (*own, *free)]
            if differences:
                values.setdefault(question, {})[m.method, m.layer] = good
                above.setdefault(question, {})[m.method, m.layer] = np.stack(differences, axis=1)
    p = _corrected({question: _worst(several, seed) for question, several in above.items()})
    better: dict[str, list[Key]] = {}
    for question, several in p.items():
        keys = [key for key, one in several.items() if one <= LEVEL and key not in useless]
        means = {key: float(np.nanmean(values[question][key])) for key in keys}
        better[question] = sorted(keys, key=means.__getitem__, reverse=True)
    p_of_lead = _corrected(
        {
            question: _differences(values[question], keys[0], useless, seed)
            for question, keys in better.items()
            if keys
        }
    )
    return {
        question: Comparison(
            images=len(next(iter(values[question].values()))),
            p=p[question],
            better=better[question],
            p_of_lead=p_of_lead.get(question, {}),
        )
        for question in p
    }


def _oriented(values: np.ndarray, measure: str) -> np.ndarray:
    """So that higher is better."""
    return values if BETTER[measure] == "higher" else -values


def _worst(differences: Mapping[Key, np.ndarray], seed: int) -> dict[Key, float]:
    """The largest p-value of each map's differences (n, baselines) to what knows nothing."""
    columns = np.concatenate(list(differences.values()), axis=1)
    p = sign_flip_test(columns, "greater", seed).reshape(len(differences), -1).max(axis=1)
    return dict(zip(differences, p.tolist(), strict=True))


def _differences(
    values: Mapping[Key, np.ndarray], first: Key, useless: Sequence[Key], seed: int
) -> dict[Key, float]:
    """The p-value of a difference between the first map and each other one."""
    others = [key for key in values if key != first and key not in useless]
    if not others:
        return {}
    differences = np.stack([values[first] - values[key] for key in others], axis=1)
    return dict(zip(others, sign_flip_test(differences, seed=seed).tolist(), strict=True))


def _corrected(p: Mapping[str, Mapping[Key, float]]) -> dict[str, dict[Key, float]]:
    """Holm over everything in two levels of mappings."""
    places = [(question, key) for question, several in p.items() for key in several]
    adjusted = holm(np.array([p[question][key] for question, key in places]))
    found: dict[str, dict[Key, float]] = {question: {} for question in p}
    for (question, key), one in zip(places, adjusted.tolist(), strict=True):
        found[question][key] = one
    return found


def verdict(measured: Sequence[Measured], seed: int = 0) -> list[Sentence]:
    """Which maps point, which name the pixels, which are not to be believed; see `compare`.

    At most three of the sentences lead: one for each question, and one on what not to believe.
    """
    sentences = []
    table = {(m.method, m.layer, m.measure): m for m in measured}
    useless = independent_of_weights(measured, seed)
    for question, found in compare(measured, seed).items():
        one, several = QUESTIONS[question]
        free = [m for m in measured if m.measure == question and not m.layer]
        images = f"{found.images} images"
        if not found.better:
            sentences.append(
                Sentence(
                    "no praise",
                    f"No map {one} better than maps that know nothing of the network, as far as "
                    f"{images} show.",
                    leads=True,
                )
            )
            continue
        first = table[(*found.better[0], question)]
        mean, low, high = bootstrap_interval(first.values, seed)
        nothing = [f"the {m.method} map {np.nanmean(m.values):z.2f}" for m in free]
        if first.random is not None:
            nothing.insert(0, f"its own cells in random places {np.nanmean(first.random):z.2f}")
        numbers = f"{mean:.2f} [{low:.2f}, {high:.2f}], where {_listed(nothing)}"
        leaders = found.leaders
        if found.has_one_best:
            text = f"{_name(leaders[0])} {one} best: {numbers}."
        elif len(leaders) > 1:
            text = (
                f"{_listed(leaders)} {several} better than maps that know nothing; which of them is "
                f"best, {images} do not show. {_name(leaders[0])}: {numbers}."
            )
        else:
            equal = [key for key, p in found.p_of_lead.items() if p > LEVEL]
            text = (
                f"{_name(leaders[0])} {one} better than maps that know nothing: {numbers}. "
                f"Not measurably better than {_listed(equal)}."
            )
        sentences.append(Sentence("praise", text, leads=True))
        behind = [key for key in found.better if key not in leaders]
        if behind:
            text = f"Behind, but better than maps that know nothing: {_listed(behind)}."
            sentences.append(Sentence("praise", text))
        rest = [key for key in found.p if key not in found.better and key not in useless]
        if rest:
            text = f"Not measurably better than maps that know nothing: {_listed(rest)}."
            sentences.append(Sentence("no praise", text))
    if useless:
        text = (
            f"Not to be believed: {_listed(useless)}; the map stays alike when all weights are "
            f"random (rank correlation above {KEEPS_ITS_PICTURE})."
        )
        sentences.append(Sentence("distrust", text, leads=True))
    return sentences


def praises(measured: Sequence[Measured], seed: int = 0) -> bool:
    """Whether the verdict praises any map."""
    return any(sentence.kind == "praise" for sentence in verdict(measured, seed))


def _name(key: Key) -> str:
    return " ".join(key)


def _listed(items: Sequence[Key] | Sequence[str]) -> str:
    names = [item if isinstance(item, str) else _name(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
