"""Accuracy, of all classes and of each, against a number that the study varied."""

from collections.abc import Sequence

import numpy as np

from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.charts import Panel
from augcam.report.key_points import changes, parting_sentence, whole_sentence
from augcam.report.sections.parts import FOLDED, picture
from augcam.report.value_curves import ValueCurve
from augcam.statistics.intervals import Estimate
from augcam.viz import words
from augcam.viz.markdown import bullets, code, plain
from augcam.viz.page import Block, Section, Table

MOST_CLASSES = 15  # panels beside the one of all classes


def value_curves(findings: Findings) -> Section | None:
    """A figure, sentences and a table for every curve; None where the study has none."""
    if not findings.value_curves:
        return None
    blocks: list[Block] = []
    for number, curve in enumerate(findings.value_curves, 1):
        blocks += _blocks(findings, curve, f"curve_{number}")
    text = (
        "Groups that differ in one number alone. Every value is compared with one of them: the "
        "baseline where it is on the curve, else the lowest. A class parts from the others where its "
        "change differs from that of all other test images together; two classes that gain or lose "
        "alike do not part, however much they gain or lose. Each curve is corrected for its own "
        "comparisons; the ranking corrects for all of its groups, and may see less."
    )
    return Section("Accuracy against a value", [text, *blocks])


def _blocks(findings: Findings, curve: ValueCurve, name: str) -> list[Block]:
    names = findings.study.classes
    known = [i for i in range(len(names)) if curve.per_class[i][0] is not None]
    largest = np.abs(curve.departure[known]).max(1)
    # Those that part stand before those that do not, then by size; shown in the study's order.
    clear = curve.apart[known].any(1)
    shown = sorted(known[i] for i in np.lexsort((-largest, ~clear))[:MOST_CLASSES])
    sign = np.where(curve.apart, np.sign(curve.departure), 0)
    panels = [_panel("all classes", curve.accuracy, np.zeros(len(curve.values)))]
    panels += [_panel(names[i], curve.per_class[i], sign[i]) for i in shown]
    reference = f"{curve.values[curve.reference]:g}"
    caption = (
        f"Mean over seeds, the bars its 95% interval (Student's t). Grey: all classes. A full dot, blue "
        f"above and red below: since `{reference}` the class has changed otherwise than all other test "
        "images together, over seeds and images, after Benjamini and Hochberg's correction over all "
        "classes and values: of the full dots, at most 5% are expected to be chance."
    )
    if len(shown) < len(names):
        caption += f" The {len(shown)} of {len(names)} classes that part most."
    drawn = figures.panels_figure(panels, curve.values, curve.key)
    rows = [_row("all classes", curve.accuracy, changes(curve, curve.change, curve.clear))]
    for i in shown:
        parts = changes(curve, curve.departure[i], curve.apart[i])
        rows.append(_row(names[i], curve.per_class[i], parts))
    columns = ["class", *(f"{v:g}" for v in curve.values), f"against {reference}, points"]
    table_caption = (
        f"Test accuracy in % by {code(curve.key)}, mean ± half of its 95% interval over seeds. The last "
        "column: where all classes differ from it (Holm over the values); where a class parts from the "
        "others, its change less theirs."
    )
    folded = len(rows) > FOLDED
    return [
        f"**{plain(curve.group)}**, {code(curve.key)} = {words.listed(columns[1:-1], 12)}; "
        f"{_seeds(curve)}.",
        bullets([whole_sentence(curve), parting_sentence(curve, names)]),
        picture(findings, name, drawn, caption),
        Table(columns, rows, table_caption, folded),
    ]


def _row(title: str, estimates: Sequence[Estimate | None], verdict: str) -> list[str]:
    return [title, *(words.estimate(e, 1, 100) if e else "-" for e in estimates), verdict]


def _panel(title: str, estimates: Sequence[Estimate | None], marked: np.ndarray) -> Panel:
    known = [(e.mean, e.low, e.high) if e else (None,) * 3 for e in estimates]
    mean, low, high = np.array(known, np.float64).T  # None becomes NaN
    return Panel(title, mean, low, high, marked)


def _seeds(curve: ValueCurve) -> str:
    least, most = min(curve.runs), max(curve.runs)
    return words.plural(least, "seed") + ("" if least == most else f" to {most}") + " each"
