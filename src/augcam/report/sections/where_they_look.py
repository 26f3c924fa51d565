"""The same images through every network, and how far the maps moved."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from augcam.errors import UserError
from augcam.report import charts as figures
from augcam.report import looks
from augcam.report.analysis import Findings
from augcam.report.commands import EVALUATE
from augcam.report.load import Maps, Run
from augcam.report.map_distances import MEASURES, map_shifts
from augcam.report.sections.parts import not_evaluated, partly, picture
from augcam.statistics import LEVEL
from augcam.statistics.intervals import mean_interval
from augcam.viz import words
from augcam.viz.markdown import bullets, code, plain
from augcam.viz.page import Block, Section, Table

MOST_IMAGES = 8


MOST_COLUMNS = 12  # of pictures side by side

# Maps that know nothing of the network, which its own are measured against: key -> title.
CONTENT_FREE = {"random": "random", "centre": "centre"}


def where_they_look(findings: Findings) -> Section:
    """The same images through every network, and what the maps say in numbers."""
    heading = "Where each network looks"
    runs = {s.label: [run for run in s.runs if run.maps] for s in findings.standings}
    runs = {label: several for label, several in runs.items() if several}
    if not runs:
        return Section(heading, [not_evaluated(findings)])
    some = next(iter(runs.values()))[0].evaluation
    assert some is not None
    text = (
        f"Maps of {plain(some['method'])} at {plain(some['layer'])}, over the same {some['images']:,} "
        f"of {findings.test_images:,} test images for every run.{partly(findings)}"
    )
    blocks: list[Block] = [text, *([_looks(findings, runs)] if len(runs) > 1 else [])]
    blocks += _map_statistics(runs)
    blocks += map_shift_blocks(findings)
    return Section(heading, blocks)


def _looks(findings: Findings, runs: Mapping[str, list[Run]]) -> Block:
    base = findings.study.baseline
    order = sorted(runs, key=lambda label: label != base)  # the baseline, then as in the ranking
    shown = {label: runs[label][0] for label in order[:MOST_COLUMNS]}
    apart = looks.disagreement([_maps(several) for several in runs.values()])
    chosen = np.argsort(-apart, kind="stable")[:MOST_IMAGES]
    try:
        images = looks.test_images(next(iter(shown.values())))
    except UserError as error:
        return f"The test images cannot be shown: {plain(str(error).splitlines()[0])}"
    rows = looks.side_by_side(images, shown, chosen, findings.study.classes)
    scale = "evidence for the true class; 1 is the median peak of that network's maps, or more"
    few = f" The first {len(shown)} of {len(runs)} augmentations." if len(shown) < len(runs) else ""
    caption = (
        f"The {len(chosen)} test images on which the augmentations disagree most (Jensen-Shannon "
        "divergence of their mean predictions); of each augmentation the network of the lowest seed."
        f"{few} The colours are the Grad-CAM of the **true** class, the same question to every network. "
        "Below: what the network answered, green if right, and how surely. Raw maps of two networks "
        "have different units, so each is divided by its own network's median peak, one number for all "
        "its maps. Place and shape compare along a row; blue or red is weak or strong evidence as that "
        "network's maps go. Grey: no cell speaks for the true class."
    )
    figure = figures.looks_figure(rows, ["image", *shown], scale)
    return picture(findings, "looks", figure, caption, few_colours=False)


def _maps(runs: Iterable[Run]) -> list[Maps]:
    return [run.maps for run in runs if run.maps]


def _map_statistics(runs: Mapping[str, list[Run]]) -> list[Block]:
    """How faithful and how concentrated each augmentation's maps are."""
    measures = [("insertion", kind) for kind in CONTENT_FREE]
    measures += [("deletion", kind) for kind in CONTENT_FREE]

    def cell(several: Sequence[Run], *path: str) -> str:
        records = [_measured(run, *path) for run in several]
        known = [record for record in records if record and record.get("mean") is not None]
        if len(known) == 1 and known[0].get("low") is not None:
            (one,) = known
            return f"{one['mean']:.3f} ± {(one['high'] - one['low']) / 2:.3f} (images)"
        if not known:
            return "-"
        return words.estimate(mean_interval([record["mean"] for record in known]), 3)

    rows = [
        [
            label,
            str(len(several)),
            *(cell(several, "excess", kind, name) for name, kind in measures),
            cell(several, "concentration"),
        ]
        for label, several in runs.items()
    ]
    caption = (
        "Mean ± half of its 95% interval over seeds; of a single run over its images, as marked. "
        "Insertion: how certain of the class the network is while the pixels that matter most are put "
        "in; deletion: while they are taken out (RISE, arXiv 1806.07421). Both depend on how a network "
        "takes to images with holes, which augmentations change (arXiv 2303.14608). So each network's "
        "maps are measured against its own: random maps of the same grid, and a blob in the centre. "
        "Insertion above 0 and deletion below 0 beat them. Concentration: the Gini index of the "
        "evidence, 0 spread evenly, 1 on a single cell."
    )
    if all(_measured(run, "excess") is None for several in runs.values() for run in several):
        caption += f" A dash: not measured by an earlier version; `{EVALUATE}DIR` does it anew."
    heading = "**The maps in numbers**: do they name what the network uses, and how wide are they?"
    columns = ["augmentation", "seeds"]
    columns += [
        f"{name} less {title} {'↑' if name == 'insertion' else '↓'}"
        for name, kind in measures
        for title in [CONTENT_FREE[kind]]
    ]
    return [heading, Table([*columns, "concentration"], rows, caption)]


def _measured(run: Run, *path: str) -> dict[str, Any] | None:
    """What evaluation.json has under maps, PATH; None where it lacks it."""
    value: Any = (run.evaluation or {}).get("maps")
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def map_shift_blocks(findings: Findings) -> list[Block]:
    """How far each augmentation's maps are from the baseline's, beside another seed's."""
    study = findings.study
    groups = {s.label: s.runs for s in findings.standings}
    shifts = map_shifts(groups, study.baseline)
    if shifts is None:
        return []
    left_out: list[Block] = []
    if shifts.other_size:
        labels = words.listed([code(label) for label in shifts.other_size])
        left_out.append(
            f"How far the maps of {labels} moved is not measured: they have another number of cells "
            f"than those of {code(study.baseline)}."
        )
    if not shifts.shift:
        return left_out
    rows = []
    if shifts.baseline_seeds:
        rows.append([f"{study.baseline}, seed to seed", *_numbers(shifts.baseline_seeds)])
    for label, shift in shifts.shift.items():
        rows.append([f"{label} to {study.baseline}", *_numbers(shift)])
        if shifts.within[label]:
            rows.append([f"{label}, seed to seed", *_numbers(shifts.within[label])])
    caption = (
        "The six measures of Dorneles, Garcia and Carbonera (arXiv 2505.12581), mean over pairs of "
        "runs. The first five compare heat maps, each stretched to its own peak; higher correlation "
        "and overlap are nearer, the others further. "
    )
    heading = f"**How far the maps moved** from those of {code(study.baseline)}:"
    columns = ["maps", *(measure.title for measure in MEASURES.values())]
    if not shifts.p:
        caption += (
            f"Whether they moved further than another seed moves them is not tested: it takes "
            f"{shifts.needed} evaluated seeds of {code(study.baseline)} and of the augmentation, with "
            f"{words.plural(len(shifts.shift), 'augmentation')} on the page."
        )
        return [heading, Table(columns, rows, caption), *left_out]
    sentences = [
        f"{plain(label)}: further apart than seeds are (adjusted p {words.p_value(p)})."
        if p < LEVEL
        else f"{plain(label)}: no further apart than seeds can put them."
        for label, p in shifts.p.items()
    ]
    untested = [code(label) for label in shifts.shift if label not in shifts.p]
    if untested:
        sentences.append(
            f"Not tested, with fewer than {shifts.needed} evaluated seeds: {words.listed(untested)}."
        )
    caption += (
        "The test deals the runs of augmentation and baseline anew and asks how often they would be so "
        "far apart, beyond what each spreads from seed to seed; one test for all six measures, adjusted "
        "for the number of augmentations: on at most 5% of pages is any of them wrong."
    )
    return [heading, bullets(sentences), Table(columns, rows, caption), *left_out]


def _numbers(measures: Mapping[str, float]) -> list[str]:
    return [f"{measures[key]:.3f}" for key in MEASURES]
