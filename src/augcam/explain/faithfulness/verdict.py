"""Which map to believe: the measures of `faithfulness` as a table, a picture and a verdict in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from augcam.explain.faithfulness.evaluate import BETTER
from augcam.viz.figures import figure_array
from augcam.viz.grid import save_png
from augcam.viz.page import Section

Row = Mapping[str, Any]


# A map that still ranks the cells alike when every weight is random shows the image, not the network
# (Adebayo et al., NeurIPS 2018, who give no threshold; this one is ours).
KEEPS_ITS_PICTURE = 0.3


def truth_section(rows: Sequence[Row], count: int, where: str, figure: Path) -> Section:
    """The table of method x layer with its verdict, and the picture where both axes were measured.

    Args:
        rows: of `faithfulness.evaluate`.
        count: of images that were used.
        where: what the localisation was measured on, in words.
        figure: the PNG file to write.
    """
    found = {(row["method"], row["layer"], row["measure"]): row for row in rows}
    keys = list(dict.fromkeys((row["method"], row["layer"]) for row in rows))
    measures = [m for m in dict.fromkeys(row["measure"] for row in rows) if "/" not in m]
    lines = []
    for key in keys:
        cells = []
        for measure in measures:
            row = found.get((*key, measure))
            cells.append(
                "-" if row is None else f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            )
        lines.append([" ".join(key).strip(), *cells])
    arrows = {"higher": "↑", "lower": "↓"}
    heads = [f"{m} {arrows.get(BETTER.get(m, ''), '')}".strip() for m in measures]
    text = (
        f"{' '.join(verdict(rows))} {count} correctly classified test images: mean and 95% bootstrap "
        f"interval over images. Localisation on {where}. random, centre and edge know nothing of the "
        "network: a map that does no better says nothing."
    )
    pictures = []
    if {"road", "localisation_pointing"} <= set(measures):
        save_png(figure_array(truth_figure(rows)), figure)
        caption = (
            "Right: names the pixels that the network's answer rests on (ROAD). Up: points at the "
            "object. Hollow: keeps its picture when all weights are random, so it shows the image and "
            "not the network. Crosses know nothing of the network."
        )
        pictures.append((figure, caption))
    return Section("Is the map true?", text, pictures, ("map", *heads), lines)


def verdict(rows: Sequence[Row]) -> list[str]:
    """Sentences: which map points best, which names the pixels best, which ones not to believe."""
    maps = [row for row in rows if row["layer"]]
    fails = {
        (row["method"], row["layer"])
        for row in maps
        if row["measure"] == "sanity_spearman" and row["low"] > KEEPS_ITS_PICTURE
    }
    said = []
    for measure, praise in (
        ("localisation_pointing", "points at the object best"),
        ("road", "names the pixels that matter best"),
    ):
        ours = [
            r for r in maps if r["measure"] == measure and (r["method"], r["layer"]) not in fails
        ]
        free = [r for r in rows if r["measure"] == measure and not r["layer"]]
        if not ours or not free:
            continue
        best, baseline = (max(group, key=lambda r: r["mean"]) for group in (ours, free))
        said.append(
            f"{_name(best)} {praise}: {best['mean']:.2f} [{best['low']:.2f}, {best['high']:.2f}], "
            f"where {_name(baseline)} reaches {baseline['mean']:.2f}."
        )
        below = [_name(r) for r in ours if r["mean"] <= baseline["mean"]]
        if below:
            said.append(f"No better than {_name(baseline)} there: {', '.join(below)}.")
    if fails:
        names = ", ".join(" ".join(key) for key in sorted(fails))
        said.append(
            f"Not to be believed: {names}; the map stays alike when all weights are random "
            f"(rank correlation clearly above {KEEPS_ITS_PICTURE})."
        )
    return said


def truth_figure(rows: Sequence[Row]) -> Figure:
    """Pointing game against ROAD, a point for each map, with 95% intervals."""
    found = {(r["method"], r["layer"], r["measure"]): r for r in rows}
    keys = list(dict.fromkeys((r["method"], r["layer"]) for r in rows))
    methods = list(dict.fromkeys(method for method, layer in keys if layer))
    markers = "osv^"  # Grad-CAM and HiResCAM are equal before global pooling: both must be seen
    figure = Figure(figsize=(7.6, 5.2), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for key in keys:
        method, layer = key
        x, y = found[(*key, "road")], found[(*key, "localisation_pointing")]
        sanity = found.get((*key, "sanity_spearman"))
        hollow = bool(layer) and sanity is not None and sanity["low"] > KEEPS_ITS_PICTURE
        colour = f"C{methods.index(method)}" if layer else "0.35"
        axes.errorbar(
            x["mean"], y["mean"],
            xerr=[[x["mean"] - x["low"]], [x["high"] - x["mean"]]],
            yerr=[[y["mean"] - y["low"]], [y["high"] - y["mean"]]],
            fmt=markers[methods.index(method)] if layer else "X", color=colour, markersize=8,
            markerfacecolor="white" if hollow else colour, elinewidth=0.6, alpha=0.8,
        )  # fmt: skip
        axes.annotate(
            layer.removeprefix("layer") or method, (x["mean"], y["mean"]), xytext=(6, 5),
            textcoords="offset points", fontsize=9, color=colour,
        )  # fmt: skip
    handles = [
        Line2D([], [], marker=markers[i], linestyle="", color=f"C{i}", label=method)
        for i, method in enumerate(methods)
    ]
    axes.legend(handles=handles, frameon=False, title="numbers: the layer")
    axes.set(xlabel="ROAD: the pixels that matter", ylabel="pointing game: at the object")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _name(row: Row) -> str:
    return f"{row['method']} {row['layer']}" if row["layer"] else f"the {row['method']} map"
