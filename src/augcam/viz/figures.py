"""Numbers -> figures: curves over epochs and confusion matrices, drawn without a display."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from augcam.errors import UserError

# Labels come from the names of folders: a dollar sign in one is no mathematics.
matplotlib.rcParams["text.parse_math"] = False


def figure_array(figure: Figure) -> np.ndarray:
    """A figure as uint8 (H, W, 3), drawn without pyplot, so in any thread and without a display."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def curves_figure(curves: Mapping[str, Sequence[tuple[int, float]]], quantity: str) -> Figure:
    """Curves over epochs in one chart, each named with its last value.

    Args:
        curves: name -> points (epoch, value); empty ones are left out.
        quantity: what the values are, the chart's y label. `accuracy` (0..1) is shown in percent.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    in_percent = quantity == "accuracy"
    for name, points in curves.items():
        if points:
            epochs, values = zip(*points, strict=True)
            last = f"{values[-1]:.2%}" if in_percent else f"{values[-1]:.3f}"
            # One epoch makes no line: the markers show it.
            marker = "o" if len(points) <= 30 else ""
            axes.plot(epochs, values, marker=marker, markersize=4, label=f"{name}  {last}")
    if axes.lines:
        axes.legend(frameon=False)
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if in_percent:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_figure(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix: counts as numbers, colour by share of the true class.

    Args:
        confusion: counts (C, C), rows = true class.
        classes: the C names.
    """
    confusion = np.asarray(confusion)
    count = len(classes)
    if confusion.shape != (count, count):
        raise UserError(f"A confusion matrix of {count} classes cannot be {confusion.shape}.")
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(max(4.5, 1.6 + 0.52 * count), 14)
    figure = Figure(figsize=(side + 0.6, side), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    # Square root: a 4% confusion must be seen beside a 90% diagonal.
    mesh = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8, format=PercentFormatter(xmax=1))
    bar.set_label("share of the true class")
    # Names beside each other need about 0.3 inch each.
    step = math.ceil(0.3 * count / side)
    ticks = range(0, count, step)
    axes.set_xticks(ticks, [classes[i] for i in ticks], rotation=45, ha="right")
    axes.set_yticks(ticks, [classes[i] for i in ticks])
    axes.set(xlabel="predicted", ylabel="true")
    if count <= 20:
        for true, predicted in np.argwhere(confusion):
            colour = "white" if share[true, predicted] > 0.4 else "black"
            number = f"{confusion[true, predicted]:g}"
            axes.text(predicted, true, number, color=colour, ha="center", va="center", fontsize=8)
    total = confusion.sum()
    if total:
        axes.set_title(f"accuracy {np.trace(confusion) / total:.2%} of {total:g} images")
    return figure
