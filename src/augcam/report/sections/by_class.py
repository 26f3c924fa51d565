"""The page's sections: findings -> words, tables and pictures."""

import numpy as np

from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.key_points import class_sentence
from augcam.report.sections.parts import _nothing_to_compare, _picture
from augcam.viz.page import Bullets, Section

MOST_CLASSES = 24  # columns of a heat map


def by_class(findings: Findings) -> Section:
    """Every class under every augmentation against the baseline."""
    heading, found = "Class by class", findings.per_class
    if found is None:
        return Section(heading, _nothing_to_compare(findings))
    order = [found.groups.index(s.label) for s in findings.others]
    largest = np.nanmax(np.abs(found.mean), axis=0, initial=0)
    shown = np.sort(np.argsort(-largest, kind="stable")[:MOST_CLASSES])
    overall = [s.difference for s in findings.others if s.difference]
    drawn = figures.difference_heatmap(
        np.column_stack([[d.mean for d in overall], found.mean[order][:, shown]]),
        np.column_stack(
            [[d.verdict in ("better", "worse") for d in overall], found.clear[order][:, shown]]
        ),
        [s.label for s in findings.others],
        ["all", *(found.classes[i] for i in shown)],
    )
    caption = (
        f"Test accuracy against `{findings.study.baseline}`, in points. Grey: within noise. A cell is "
        "coloured where it differs from 0 after Benjamini and Hochberg's correction over all cells: of "
        "the coloured ones, at most 5% are expected to be chance. The first column is the ranking's."
    )
    if len(shown) < len(found.classes):
        caption += (
            f" The {len(shown)} of {len(found.classes)} classes with the largest differences."
        )
    text = (
        "One seed each: this counts the sampling of test images alone, and speaks of these networks, "
        "not of the augmentations."
        if found.images_only
        else ""
    )
    sentences = Bullets([class_sentence(found, i) for i in order])
    return Section(heading, text, blocks=[sentences, _picture(findings, "classes", drawn, caption)])
