"""Accuracy over epochs, and how far training is ahead of validation."""

from collections.abc import Callable

from augcam.report import charts as figures
from augcam.report.analysis import Findings, generalisation_gap
from augcam.report.sections.parts import picture
from augcam.statistics.intervals import mean_interval
from augcam.viz import words
from augcam.viz.page import Block, Picture, Row, Section, Table


def curves(findings: Findings) -> Section:
    """Accuracy over epochs, and how far training is ahead of validation."""
    several = any(len(s.runs) > 1 for s in findings.standings)
    over = "mean over seeds, shaded from the lowest to the highest" if several else "one run each"

    def drawn(name: str, y_label: str, value: Callable[[dict], float | None], caption: str,
              reference: float | None = None) -> list[Picture]:  # fmt: skip
        groups = {}
        for s in findings.standings:
            histories = [run.metrics.get("history") or [] for run in s.runs]
            points = [[(row["epoch"], value(row)) for row in history] for history in histories]
            known = [[(x, y) for x, y in curve if y is not None] for curve in points]
            if any(known):
                groups[s.label] = [curve for curve in known if curve]
        if not groups:
            return []
        figure = figures.lines_figure(groups, findings.styles, "epoch", y_label, reference)
        return [picture(findings, name, figure, f"{caption}: {over}.")]

    def gap(row: dict[str, float]) -> float | None:
        train, val = row.get("train/accuracy"), row.get("val/accuracy")
        return None if train is None or val is None else train - val

    charts = drawn(
        "validation", "validation accuracy, %", lambda row: row.get("val/accuracy"),
        "Validation accuracy after each epoch",
    ) or drawn(
        "training", "training accuracy, %", lambda row: row.get("train/accuracy"),
        "Training accuracy; nothing was held out for validation (`data.holdout=0`)",
    )  # fmt: skip
    charts += drawn(
        "gap", "training − validation accuracy, points", gap, "Generalisation gap after each epoch", 0.0
    )  # fmt: skip
    if not charts:
        return Section("Learning curves", ["The runs kept no history."])
    blocks: list[Block] = [Row(charts)]
    rows = []
    for s in findings.standings:
        gaps = [g for g in map(generalisation_gap, s.runs) if g is not None]
        if gaps:
            mean = words.estimate(mean_interval(gaps), 1, 100, "+")
            rows.append([s.label, str(len(gaps)), mean])
    if rows:
        caption = (
            "Training minus validation accuracy, mean ± half of its 95% interval over seeds. Training "
            "accuracy is that of the augmented images as the epoch meets them: a strong augmentation "
            "makes it lower, so the gap shows how hard training was made, not overfitting alone."
        )
        columns = ["augmentation", "seeds", "gap after the last epoch, points"]
        blocks.append(Table(columns, rows, caption))
    return Section("Learning curves", blocks)
