"""The page's sections: findings -> words, tables and pictures."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from augcam.errors import UserError
from augcam.report import charts as figures
from augcam.report import looks, statistics
from augcam.report.analysis import Findings
from augcam.report.load import Maps, Run
from augcam.report.sections.parts import _not_evaluated, _partly, _picture
from augcam.report.statistics import MEASURES, Spread
from augcam.viz import words
from augcam.viz.page import Block, Bullets, Section, Table

MOST_IMAGES = 8


MOST_COLUMNS = 12  # of pictures side by side


def where_they_look(findings: Findings) -> Section:
    """The same images through every network, and what the maps say in numbers."""
    heading = "Where each network looks"
    runs = {s.label: [run for run in s.runs if run.maps] for s in findings.standings}
    runs = {label: several for label, several in runs.items() if several}
    if not runs:
        return Section(heading, _not_evaluated(findings))
    some = next(iter(runs.values()))[0].evaluation
    assert some is not None
    text = (
        f"Maps of {some['method']} at {some['layer']}, over the same {some['images']:,} of "
        f"{findings.test_images:,} test images for every run.{_partly(findings)}"
    )
    blocks: list[Block] = [_looks(findings, runs)] if len(runs) > 1 else []
    blocks += _map_statistics(runs)
    blocks += _map_shifts(findings)
    return Section(heading, text, blocks=blocks)


def _looks(findings: Findings, runs: Mapping[str, list[Run]]) -> Block:
    base = findings.study.baseline
    order = sorted(runs, key=lambda label: label != base)  # the baseline, then as in the ranking
    shown = {label: runs[label][0] for label in order[:MOST_COLUMNS]}
    apart = looks.disagreement([_maps(several) for several in runs.values()])
    chosen = np.argsort(-apart, kind="stable")[:MOST_IMAGES]
    try:
        images = looks.test_images(next(iter(shown.values())))
    except UserError as error:
        return f"The test images cannot be shown: {str(error).splitlines()[0]}"
    rows = looks.side_by_side(images, shown, chosen, findings.study.classes)
    scale = "evidence for the true class; 1 is the median peak of that network's maps, or more"
    few = f" The first {len(shown)} of {len(runs)} augmentations." if len(shown) < len(runs) else ""
    caption = (
        f"The {len(chosen)} test images on which the augmentations disagree most (Jensen-Shannon "
        "divergence of their mean predictions); of each augmentation the network of the lowest seed."
        f"{few} The colours are the Grad-CAM of the **true** class, the same question to every network. "
        "Below: what the network said, green if right, and how surely. Raw maps of different networks "
        "have different units, so each is divided by its own network's median peak, one number for all "
        "its maps. Place and shape compare along a row; blue or red is weak or strong evidence as that "
        "network's maps go. Grey: no cell speaks for the true class."
    )
    figure = figures.looks_figure(rows, ["image", *shown], scale)
    return _picture(findings, "looks", figure, caption, few_colours=False)


def _maps(runs: Iterable[Run]) -> list[Maps]:
    return [run.maps for run in runs if run.maps]


def _map_statistics(runs: Mapping[str, list[Run]]) -> list[Block]:
    """How faithful and how concentrated each augmentation's maps are."""

    def cell(several: Sequence[Run], name: str) -> str:
        found = [run.evaluation["maps"].get(name) for run in several if run.evaluation]
        known = [s for s in found if s and s.get("mean") is not None]
        if len(known) == 1 and known[0].get("low") is not None:
            (one,) = known
            return f"{one['mean']:.3f} ± {(one['high'] - one['low']) / 2:.3f} (images)"
        if not known:
            return "-"
        return words.estimate(statistics.mean_interval([s["mean"] for s in known]), 3)

    names = ["insertion", "deletion", "concentration"]
    rows = [
        [label, str(len(several)), *(cell(several, name) for name in names)]
        for label, several in runs.items()
    ]
    caption = (
        "Mean ± half of its 95% interval over seeds; of a single run over its images, as marked. "
        "Insertion: how certain of the class the network is while the pixels that matter most are put "
        "in, higher is better; deletion: while they are taken out, lower is better (RISE, arXiv "
        "1806.07421). Both also depend on how certain a network is at all. Concentration: the Gini "
        "index of the evidence, 0 spread evenly, 1 on a single cell."
    )
    said = "**The maps in numbers**: do they find what the network uses, and how wide are they?"
    columns = ["augmentation", "seeds", "insertion ↑", "deletion ↓", "concentration"]
    return [said, Table(columns, rows, caption)]


def _map_shifts(findings: Findings) -> list[Block]:
    """How far each augmentation's maps are from the baseline's, beside another seed's."""
    study, floor = findings.study, statistics.noise_floor(findings.study)
    shifts = {s.label: statistics.map_shift(study, s.label) for s in findings.others}
    shifts = {label: shift for label, shift in shifts.items() if shift}
    if not shifts:
        return []

    def beyond(key: str, shift: Spread) -> bool:
        _title, more_is_further = MEASURES[key]
        return shift.mean > floor[key].high if more_is_further else shift.mean < floor[key].low

    rows, sentences = [], []
    pairs = floor["kl"].pairs // 2 if floor else 0  # each was taken both ways
    if floor:
        rows.append(["noise floor", *(f"{floor[key].mean:.3f}" for key in MEASURES)])
        ends = [f"{floor[key].low:.3f}–{floor[key].high:.3f}" for key in MEASURES]
        rows += [["its pairs", *ends]] if pairs > 1 else []
    for label, shift in shifts.items():
        far = [key for key in MEASURES if floor and beyond(key, shift[key])]
        cells = [f"{shift[key].mean:.3f}" for key in MEASURES]
        marked = [f"**{c}**" if key in far else c for key, c in zip(MEASURES, cells, strict=True)]
        rows.append([label, *marked])
        sentences.append(
            f"{label}: further than another seed moves them, by {len(far)} of {len(MEASURES)} measures."
            if far
            else f"{label}: no further than another seed moves them."
        )
    caption = (
        "The six measures of Dorneles, Garcia and Carbonera (arXiv 2505.12581), mean over pairs of runs "
        "with unequal seeds. The first five compare heat maps, each stretched to its own peak; higher "
        "correlation and overlap are nearer, the others further. "
    )
    said = f"**How far the maps moved** from those of `{study.baseline}`"
    columns = ["augmentation", *(title for title, _ in MEASURES.values())]
    if not floor:
        caption += f"There is no noise floor: it takes two evaluated runs of `{study.baseline}`."
        return [f"{said}:", Table(columns, rows, caption)]
    caption += (
        f"The noise floor is the same between runs of `{study.baseline}` that differ in the seed alone "
        f"({words.plural(pairs, 'pair')}). **Bold**: beyond all of these."
    )
    return [f"{said}:", Bullets(sentences), Table(columns, rows, caption)]
