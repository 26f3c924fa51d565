"""The report's charts: arrays -> figures, drawn without pyplot, twice as fine as the page shows them."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from augcam.atomic import write_atomically
from augcam.explain.overlay import colour_map
from augcam.viz import words
from augcam.viz.figures import figure_array
from augcam.viz.grid import png_bytes

DENSITY = 2  # pixels of a figure for each pixel of the page


_DPI = 96 * DENSITY  # an inch of a figure is 96 pixels of the page, so 10 points are 13 of them


_INK, _SOFT, _GREY = "#1c2733", "#7b8794", "#eef1f4"


# Okabe and Ito's colours, told apart by colour-blind eyes; the baseline is black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")


_DASHES = ("-", "--", ":", "-.")


Style = dict[str, Any]


Curve = Sequence[tuple[float, float]]  # points (x, y)


def save_figure(figure: Figure, path: Path, few_colours: bool = True) -> None:
    """Write a figure as PNG, making its folder.

    Args:
        few_colours: 256 are enough, as in charts. Without it only a file above 1 MB gets so few.
    """
    picture = Image.fromarray(figure_array(figure))
    if few_colours:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    content = png_bytes(picture, optimize=True)
    if len(content) > 1_000_000:
        content = png_bytes(picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG))
    write_atomically(path, content)


def group_styles(labels: Iterable[str], baseline: str | None) -> dict[str, Style]:
    """Colour and dash of each group, the same in all charts."""
    others = [label for label in labels if label != baseline]
    styles: dict[str, Style] = {
        label: {
            "color": _COLOURS[i % len(_COLOURS)],
            "linestyle": _DASHES[i // len(_COLOURS) % len(_DASHES)],
        }
        for i, label in enumerate(others)
    }
    return styles | ({baseline: {"color": _INK, "linestyle": "-"}} if baseline else {})


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


@dataclass(frozen=True)
class Dot:
    """A line of `dots_figure`: a mean, its interval where there is one, and the single values."""

    label: str
    mean: float
    interval: tuple[float, float] | None
    values: Sequence[float]
    color: str


def dots_figure(dots: Sequence[Dot], what: str, reference: float | None = None) -> Figure:
    """Means with intervals, one below the other, a small ring for every run.

    Args:
        dots: from top to bottom.
        what: label of the axis.
        reference: where a line stands, the baseline.
    """
    longest = max(len(dot.label) for dot in dots)
    lines = textwrap.wrap(what, 44)  # what the axis has room for, beside labels of any length
    height = 0.75 + 0.32 * len(dots) + 0.18 * (len(lines) - 1)
    figure, axes = _figure(max(4.9, 3.4 + 0.075 * longest), height)
    if reference is not None:
        axes.axvline(reference, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    for y, dot in enumerate(dots):
        if dot.interval:
            axes.plot(dot.interval, [y, y], color=dot.color, linewidth=2.2, alpha=0.55)
        axes.plot(dot.mean, y, "o", ms=8, color=dot.color)
        # White rings, on the full dot too.
        axes.plot(dot.values, [y] * len(dot.values), "o", ms=5, mfc="white", mec=dot.color, mew=1.2)
    axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
    axes.set(xlabel="\n".join(lines), ylim=(len(dots) - 0.4, -0.6))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.spines["left"].set_visible(False)
    return figure


def lines_figure(
    groups: Mapping[str, Sequence[Curve]],
    styles: Mapping[str, Style],
    x_label: str,
    y_label: str,
    reference: float | None = None,
) -> Figure:
    """For each group the mean curve of its runs, shaded from the least to the greatest of them.

    Args:
        groups: by label the runs' curves, y in 0..1, drawn in hundredths; the mean at an x is over
            those that have it.
        styles: of `group_styles`.
        reference: where a horizontal line stands.
    """
    columns = min(3, max(1, 42 // max(len(label) for label in groups)))
    figure, axes = _figure(4.7, 3.7 + 0.2 * (len(groups) // columns))
    if reference is not None:
        axes.axhline(reference, color=_SOFT, linewidth=1)
    for label, curves in groups.items():
        at: dict[float, list[float]] = {}
        for x, y in (point for curve in curves for point in curve):
            at.setdefault(x, []).append(100 * y)
        xs = sorted(at)
        marker = "o" if len(xs) <= 12 else ""
        means = [float(np.mean(at[x])) for x in xs]
        axes.plot(xs, means, **styles[label], marker=marker, ms=3.5, lw=1.8, label=label)
        if len(curves) > 1:
            low, high = [min(at[x]) for x in xs], [max(at[x]) for x in xs]
            axes.fill_between(xs, low, high, color=styles[label]["color"], alpha=0.15, lw=0)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


@dataclass(frozen=True)
class Panel:
    """One small chart of `panels_figure`: means at the values, (V,), with the ends of their intervals.

    Attributes:
        mean, low, high: in 0..1; NaN where there is none.
        marked: +1 and -1 where a point is set off, above and below the others; else 0.
    """

    title: str
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    marked: np.ndarray


_ABOVE, _BELOW = "#0072b2", "#b3261e"


_WIDE_RANGE = 20  # a largest value so many times the least needs a logarithmic axis


def panels_figure(panels: Sequence[Panel], values: Sequence[float], x_label: str) -> Figure:
    """Small charts on one scale, the first panel's curve in grey behind the others.

    Args:
        panels: the first is what the others are seen against.
        values: ascending, one a point; where all are above 0 and far apart, the axis is logarithmic.
        x_label: what they are.
    """
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.35 * columns, 1.9 * rows + 0.4), dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    ends = [np.clip(100 * side, 0, 100) for panel in panels for side in (panel.low, panel.high)]
    means = [100 * panel.mean for panel in panels]
    least, most = np.nanmin([*ends, *means]), np.nanmax([*ends, *means])
    for axes, panel in zip(grid.flat, panels, strict=False):
        own = panel is panels[0]
        if not own:
            axes.plot(values, means[0], color=_SOFT, lw=1.2, alpha=0.7)
        sign = np.sign(panel.marked.sum())
        colour = _ABOVE if sign > 0 else _BELOW if sign < 0 else _INK
        axes.plot(values, 100 * panel.mean, color=colour, lw=1.8)
        axes.vlines(values, 100 * panel.low, 100 * panel.high, color=colour, lw=1.6, alpha=0.45)
        for value, mean, mark in zip(values, 100 * panel.mean, panel.marked, strict=True):
            face = _ABOVE if mark > 0 else _BELOW if mark < 0 else "white"
            edge = face if mark else colour
            axes.plot(value, mean, "o", ms=6 if mark else 4, mfc=face, mec=edge, mew=1.2)
        axes.set_title(panel.title, fontsize=10, color=colour, fontweight="bold" if own else None)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    first = grid[0, 0]
    if values[0] > 0 and values[-1] >= _WIDE_RANGE * values[0]:
        first.set_xscale("log")
    first.minorticks_off()
    first.set_xticks(values, [f"{value:g}" for value in values])
    margin = max(1.0, 0.05 * (most - least))
    first.set_ylim(least - margin, most + margin)
    for column in range(columns):  # the lowest panel of a column may be in the row before the last
        shown = [axes for axes in grid[:, column] if axes.get_visible()]
        shown[-1].tick_params(labelbottom=True)
    figure.supxlabel(x_label, fontsize=10)
    figure.supylabel("test accuracy, %", fontsize=10)
    return figure


def difference_heatmap(
    mean: np.ndarray, clear: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Differences in points, blue for more and red for less; what is not clear is grey.

    Args:
        mean: (rows, columns), in 0..1; NaN stays empty. The first column is set apart: all classes.
        clear: bool, same shape.
    """
    points = 100 * mean
    largest = max(1.0, float(np.nanmax(np.abs(np.where(clear, points, 0)), initial=0)))
    norm = TwoSlopeNorm(0, -largest, largest)
    colours = colormaps["RdBu"](0.5 + 0.42 * (2 * norm(np.nan_to_num(points)).data - 1))
    colours[~clear] = (*(int(_GREY[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1)
    ink = [[_INK if c else _SOFT for c in line] for line in clear]
    ink = [
        ["white" if c and abs(p) > 0.72 * largest else i for c, p, i in zip(*parts, strict=True)]
        for parts in zip(clear, points, ink, strict=True)
    ]
    texts = [["" if np.isnan(p) else words.signed(p, 1) for p in r] for r in points]
    figure, axes = _cells(colours, texts, ink, rows, columns)
    axes.axvline(0.5, color="white", linewidth=5)
    return figure


def accuracy_heatmap(values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Accuracies (rows, columns) in 0..1, the darker the higher. The first column is set apart."""
    norm = Normalize(np.nanmin(values), np.nanmax(values))
    shade = np.nan_to_num(norm(values).data)
    colours = colormaps["YlGnBu"](0.05 + 0.75 * shade)
    ink = [["white" if s > 0.62 else _INK for s in line] for line in shade]
    texts = [["" if np.isnan(v) else f"{100 * v:.0f}" for v in line] for line in values]
    figure, axes = _cells(colours, texts, ink, rows, columns)
    axes.axvline(0.5, color="white", linewidth=5)
    return figure


def _cells(
    colours: np.ndarray,
    texts: Sequence[Sequence[str]],
    ink: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
) -> tuple[Figure, Axes]:
    """A table of coloured cells (rows, columns, 4) with a text in each, names at the left and on top."""
    side = 0.075 * max(len(name) for name in rows)
    top = 0.055 * max(len(name) for name in columns)
    figure, axes = _figure(side + 0.3 + 0.5 * len(columns), top + 0.35 + 0.36 * len(rows))
    axes.imshow(colours, aspect="auto")
    for i, line in enumerate(texts):
        for j, text in enumerate(line):
            axes.text(j, i, text, color=ink[i][j], ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    return figure, axes


@dataclass(frozen=True)
class PictureCell:
    """One cell of `looks_figure`: a picture uint8 (H, W, 3), what stands below it, and is it right."""

    picture: np.ndarray
    text: str
    right: bool | None = None


_CELL = 88 * DENSITY  # pixels of a picture's side, about


_GAP = 6 * DENSITY


_LINE = 14 * DENSITY


def looks_figure(
    rows: Sequence[Sequence[PictureCell]], headings: Sequence[str], scale: str
) -> Figure:
    """Pictures with a text below each and a heading over every column, and the colours' scale.

    Small pictures are enlarged by a whole factor: a pixel stays a pixel.

    Args:
        rows: equally many cells each, pictures of one size.
        headings: one a column; broken at `_` and at spaces.
        scale: what the colours stand for, from blue to red.
    """
    pictures = [[_enlarged(cell.picture) for cell in row] for row in rows]
    height, width = pictures[0][0].shape[:2]
    titles = [_broken(heading) for heading in headings]
    lines = 1 + max(cell.text.count("\n") for row in rows for cell in row)
    head = (1 + max(title.count("\n") for title in titles)) * _LINE + _GAP
    step_x, step_y = width + _GAP, height + lines * _LINE + 2 * _GAP
    # The longest text may be wider than its picture.
    longest = max(len(line) for row in rows for cell in row for line in cell.text.split("\n"))
    step_x = max(step_x, int(longest * 6.4 * DENSITY))
    total_x = step_x * len(headings) + _GAP
    beside_bar = total_x - 3 * _GAP - len(colour_map())
    scale = textwrap.fill(scale, max(20, int(beside_bar / (5.5 * DENSITY))))
    foot = (3 + scale.count("\n")) * _LINE
    total_y = head + step_y * len(rows) + foot
    figure = Figure(figsize=(total_x / _DPI, total_y / _DPI), dpi=_DPI)

    def write(x: float, y: float, text: str, **how: object) -> None:
        style: dict = {"ha": "center", "va": "top", "fontsize": 8.5, "color": _INK} | how
        figure.text(x / total_x, 1 - y / total_y, text, **style)

    for column, title in enumerate(titles):
        middle = _GAP + column * step_x + width / 2
        write(middle, head - _GAP / 2, title, va="bottom", fontweight="bold")
    for i, (row, shown) in enumerate(zip(rows, pictures, strict=True)):
        y = head + i * step_y
        for j, (cell, picture) in enumerate(zip(row, shown, strict=True)):
            x = _GAP + j * step_x
            # Pixel by pixel: nothing is resampled. Its origin is the lower left corner.
            figure.figimage(picture, x, total_y - y - height)
            colour = {None: _INK, True: "#1b6e3c", False: "#b3261e"}[cell.right]
            write(x + width / 2, y + height + _GAP / 2, cell.text, color=colour)
    bar = np.repeat(colour_map()[None], _LINE // 2, axis=0).astype(np.uint8)
    figure.figimage(bar, _GAP, foot - 2 * _LINE)
    top = total_y - foot + _LINE
    write(_GAP + bar.shape[1] + _GAP, top + 0.3 * _LINE, scale, ha="left")
    write(_GAP, top + 1.2 * _LINE, "0", ha="left")
    write(_GAP + bar.shape[1], top + 1.2 * _LINE, "1", ha="right")
    return figure


def _enlarged(picture: np.ndarray) -> np.ndarray:
    side = max(picture.shape[:2])
    if side > 1.5 * _CELL:
        small = Image.fromarray(picture)
        small.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
        return np.asarray(small)
    factor = max(1, round(_CELL / side))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _broken(text: str, width: int = 12) -> str:
    """The text in lines of about `width` characters, broken after `_`, `,`, `=` and spaces."""
    lines = [""]
    for part in re.findall(r"[^_,= ]*[_,= ]*", text):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)
