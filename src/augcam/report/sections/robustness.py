"""Accuracy under corruption."""

import numpy as np

from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.corruption_errors import TRAINED
from augcam.report.key_points import robust_sentence
from augcam.report.sections.parts import not_evaluated, partly, picture
from augcam.viz import words
from augcam.viz.markdown import code
from augcam.viz.page import Block, Row, Section, Table


def robustness(findings: Findings) -> Section:
    """Accuracy under corruption."""
    heading, base = "Robustness", findings.study.baseline
    records = {s.label: [r.evaluation for r in s.runs if r.evaluation] for s in findings.standings}
    records = {label: several for label, several in records.items() if several}
    every = [evaluation for several in records.values() for evaluation in several]
    if not every:
        return Section(heading, [not_evaluated(findings)])
    names = [n for n in every[0]["corruptions"] if all(n in e["corruptions"] for e in every)]
    if not names:
        return Section(heading, ["The evaluations have no corruption in common."])
    # (runs, corruptions, severities) of each group
    tables = {
        label: np.array([[e["corruptions"][name] for name in names] for e in several])
        for label, several in records.items()
    }
    clean = {label: [e["accuracy"] for e in several] for label, several in records.items()}
    heat = figures.accuracy_heatmap(
        np.array([[np.mean(clean[label]), *t.mean(axis=(0, 2))] for label, t in tables.items()]),
        list(tables),
        ["clean", *(name.replace("_", " ") for name in names)],
    )
    strengths = {
        label: [list(enumerate([c, *run])) for c, run in zip(clean[label], t.mean(1), strict=True)]
        for label, t in tables.items()
    }
    lines = figures.lines_figure(strengths, findings.styles, "severity (0: clean)", "accuracy, %")
    errors = findings.corruption_errors
    rows = [
        [
            label,
            str(len(t)),
            f"{100 * np.mean(clean[label]):.1f}",
            f"{100 * t.mean():.1f}",
            words.estimate(errors.all[label], 1) if errors and label in errors.all else "-",
            words.estimate(errors.unseen[label], 1) if errors and label in errors.unseen else "-",
        ]
        for label, t in tables.items()
    ]
    trained = words.listed([code(name) for name in TRAINED])
    caption = "Without an evaluated baseline there is no relative error (mCE)."
    if errors:
        caption = (
            "Mean corruption error (mCE): the errors under each corruption as a share of those of "
            f"{code(base)}, averaged over corruptions, in per cent (Hendrycks and Dietterich, arXiv "
            f"1903.12261); below 100 is more robust. {trained} are what crop and rotate train on, so "
            "the last column leaves them out. ± is half of the 95% interval over the row's own seeds."
        )
    text = (
        f"{every[0]['images']:,} of {findings.test_images:,} test images, a stratified choice (seed "
        f"{every[0]['seed']}), the same for every run; {len(names)} corruptions at "
        f"{tables[next(iter(tables))].shape[2]} severities.{partly(findings)}"
    )
    columns = ["augmentation", "seeds", "clean, %", "corrupted, %", "mCE, %"]
    columns.append(f"mCE without {' and '.join(TRAINED)}, %")
    several = any(len(t) > 1 for t in tables.values())
    shaded = ", mean over seeds, shaded from the lowest to the highest run" if several else ""
    sentence = robust_sentence(findings)
    blocks: list[Block] = [
        text,
        sentence[:1].upper() + sentence[1:],
        Row(
            [
                Table(columns, rows, caption),
                picture(
                    findings,
                    "severities",
                    lines,
                    f"Mean over the {len(names)} corruptions{shaded}.",
                ),
            ]
        ),
        picture(findings, "corruptions", heat, "Accuracy in %, mean over severities and seeds."),
    ]
    return Section(heading, blocks)
