"""Which map to believe, as a section of a page: the verdict, a picture and the whole table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rich.table
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from rich.text import Text

from augcam.explain.faithfulness.measure import BETTER, Measured
from augcam.explain.faithfulness.verdict import (
    QUESTIONS,
    Comparison,
    compare,
    independent_of_weights,
    verdict,
)
from augcam.statistics.intervals import bootstrap_interval
from augcam.viz.figures import figure_array
from augcam.viz.grid import save_png
from augcam.viz.markdown import bullets, plain
from augcam.viz.page import Block, Picture, Section, Table

_ARROWS = {"higher": "↑", "lower": "↓"}

_CAPTION = (
    "Right: names the pixels that the network's answer rests on (ROAD). Up: points at the object. "
    "Hollow: keeps its picture when all weights are random, so it shows the image and not the "
    "network. Crosses know nothing of the network; dots are the maps with their cells in random "
    "places."
)


def faithfulness_section(
    measured: Sequence[Measured], count: int, where: str, figure: Path, seed: int = 0
) -> Section:
    """What the verdict says below its leading sentences, the figure, and the tables, folded.

    The figure is there where both of its axes were measured.

    Args:
        measured: by `measure_faithfulness`.
        count: of images that were used.
        where: what localisation was measured on, in words, or that it was not.
        figure: the PNG file to write.
        seed: of the tests and intervals.
    """
    measures = {m.measure for m in measured}
    text = (
        f"{count} correctly classified test images; {where}. Random (the map's own "
        "cells in random places), centre and edge know nothing of the network: a map that does no "
        "better says nothing. Maps are compared image by image, and corrected for their number: of "
        "pages on maps that say nothing, at most 5% praise one."
    )
    blocks: list[Block] = []
    further = [plain(one.text) for one in verdict(measured, seed) if not one.leads]
    if further:
        blocks.append(bullets(further))
    if set(QUESTIONS) <= measures:
        save_png(figure_array(faithfulness_figure(measured, seed)), figure)
        blocks.append(Picture(figure, _CAPTION))
    blocks.append(_means(measured, count, seed))
    blocks += [
        _against_nothing(measured, question, found, seed)
        for question, found in compare(measured, seed).items()
    ]
    return Section("Is the map true?", [text, *blocks])


# In the terminal: the measures by short names, and means alone, so that 80 columns hold them.
_SHORT = {
    "localisation_pointing": "point",
    "localisation_energy": "energy",
    "insertion": "ins.",
    "deletion": "del.",
    "road": "ROAD",
    "max_sensitivity": "sens.",
    "sanity_spearman": "sanity",
    "concentration": "conc.",
}


def means_table(measured: Sequence[Measured]) -> rich.table.Table:
    """The means for a terminal of 80 columns."""
    table = {(m.method, m.layer, m.measure): m for m in measured}
    names = [name for name in _SHORT if any(m.measure == name for m in measured)]
    shown = rich.table.Table(box=None, pad_edge=False)
    shown.add_column("map", overflow="fold")
    for name in names:
        arrow = _ARROWS.get(BETTER.get(name, ""), "")
        shown.add_column(f"{_SHORT[name]}{arrow}", justify="right", no_wrap=True)
    for key in dict.fromkeys((m.method, m.layer) for m in measured):
        means = []
        for name in names:
            one = table.get((*key, name))
            known = one is not None and not np.isnan(one.values).all()
            means.append(f"{np.nanmean(one.values):.2f}" if one and known else "-")
        shown.add_row(Text(" ".join(key).strip()), *means)
    return shown


def _means(measured: Sequence[Measured], count: int, seed: int) -> Table:
    table = {(m.method, m.layer, m.measure): m for m in measured}
    keys = list(dict.fromkeys((m.method, m.layer) for m in measured))
    measures = [name for name in dict.fromkeys(m.measure for m in measured) if "/" not in name]
    rows = []
    for key in keys:
        cells = [_cell(table.get((*key, name)), count, seed) for name in measures]
        rows.append([" ".join(key).strip(), *cells])
    heads = [f"{name} {_ARROWS.get(BETTER.get(name, ''), '')}".strip() for name in measures]
    caption = (
        f"Every measure. Mean and 95% bootstrap interval over {count} images; n where some of the "
        "maps say nothing and drop out. Two intervals are no comparison: for that see the tests."
    )
    return Table(("map", *heads), rows, caption, folded=True)


def _cell(one: Measured | None, count: int, seed: int) -> str:
    if one is None:
        return "-"
    known = int((~np.isnan(one.values)).sum())
    if not known:
        return "- (n=0)"
    mean, low, high = bootstrap_interval(one.values, seed)
    dropped = f" (n={known})" if known < count else ""
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]{dropped}"


def _against_nothing(
    measured: Sequence[Measured], question: str, found: Comparison, seed: int
) -> Table:
    """Each map's mean difference to what knows nothing, and the corrected p-value."""
    maps = {(m.method, m.layer): m for m in measured if m.measure == question}
    free = [m for (_, layer), m in maps.items() if not layer]
    rows = []
    for key, p in found.p.items():
        one = maps[key]
        others = [one.random, *(m.values for m in free)]
        cells = [
            "-" if other is None
            else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*bootstrap_interval(one.values - other, seed))
            for other in others
        ]  # fmt: skip
        rows.append([" ".join(key), *cells, f"{p:.3f}" if p >= 0.001 else "0.001 or less"])
    heads = [f"over {name}" for name in ("its own random", *(m.method for m in free))]
    caption = (
        f"Tests of {question}. Paired differences with 95% intervals; p of the worst of them "
        "(one-sided sign-flip test), Holm over all maps and both questions."
    )
    return Table(("map", *heads, "p, corrected"), rows, caption, folded=True)


# Grad-CAM and HiResCAM are equal before global pooling: both must be visible, one on the other.
_MARKERS = "osv^Dph*<>P8d"


def faithfulness_figure(measured: Sequence[Measured], seed: int = 0) -> Figure:
    """Pointing game against ROAD, a point for each map, with 95% intervals."""
    table = {(m.method, m.layer, m.measure): m for m in measured}
    keys = list(dict.fromkeys((m.method, m.layer) for m in measured))
    methods = list(dict.fromkeys(method for method, layer in keys if layer))
    hollow = independent_of_weights(measured, seed)
    style = {
        method: (_MARKERS[i % len(_MARKERS)], f"C{i % 10}") for i, method in enumerate(methods)
    }
    figure = Figure(figsize=(7.6, 5.2), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for key in keys:
        method, layer = key
        across, up = (table[(*key, name)] for name in ("road", "localisation_pointing"))
        x, y = (bootstrap_interval(m.values, seed) for m in (across, up))
        marker, colour = style[method] if layer else ("X", "0.35")
        if across.random is not None and up.random is not None:
            axes.plot(
                np.nanmean(across.random), np.nanmean(up.random), ".", color=colour, alpha=0.5
            )
        axes.errorbar(
            x.mean, y.mean,
            xerr=[[x.mean - x.low], [x.high - x.mean]],
            yerr=[[y.mean - y.low], [y.high - y.mean]],
            fmt=marker, color=colour, markersize=8,
            markerfacecolor="white" if key in hollow else colour, elinewidth=0.6, alpha=0.8,
        )  # fmt: skip
        axes.annotate(
            layer.removeprefix("layer") or method, (x.mean, y.mean), xytext=(6, 5),
            textcoords="offset points", fontsize=9, color=colour,
        )  # fmt: skip
    handles = [
        Line2D([], [], marker=marker, linestyle="", color=colour, label=method)
        for method, (marker, colour) in style.items()
    ]
    axes.legend(handles=handles, frameon=False, title="numbers: the layer")
    axes.set(xlabel="ROAD: the pixels that matter", ylabel="pointing game: at the object")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
