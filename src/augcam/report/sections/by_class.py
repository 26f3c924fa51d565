"""Every class under every augmentation against the baseline."""

import numpy as np

from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.key_points import class_sentence
from augcam.report.sections.parts import nothing_to_compare, picture
from augcam.viz.markdown import bullets, code
from augcam.viz.page import Section

MOST_CLASSES = 24  # columns of a heat map


def by_class(findings: Findings) -> Section:
    """The sentences, and every difference as a coloured table."""
    heading, classes = "Class by class", findings.per_class
    if classes is None:
        return Section(heading, [nothing_to_compare(findings)])
    order = [classes.groups.index(s.label) for s in findings.others]
    largest = np.nanmax(np.abs(classes.mean), axis=0, initial=0)
    shown = np.sort(np.argsort(-largest, kind="stable")[:MOST_CLASSES])
    overall = [s.difference for s in findings.others if s.difference]
    drawn = figures.difference_heatmap(
        np.column_stack([[d.mean for d in overall], classes.mean[order][:, shown]]),
        np.column_stack(
            [[d.verdict in ("better", "worse") for d in overall], classes.clear[order][:, shown]]
        ),
        [s.label for s in findings.others],
        ["all", *(classes.classes[i] for i in shown)],
    )
    caption = (
        f"Test accuracy against {code(findings.study.baseline)}, in points. Grey: within noise. A cell "
        "is coloured where it differs from 0 after Benjamini and Hochberg's correction over all cells: "
        "of the coloured ones, at most 5% are expected to be chance. The cells that stand out also "
        "stand out by luck: expect somewhat less of them in new seeds. The first column is the "
        "ranking's."
    )
    if len(shown) < len(classes.classes):
        caption += (
            f" The {len(shown)} of {len(classes.classes)} classes with the largest differences."
        )
    text = "" if classes.tested else "One seed each: nothing can be told from noise."
    if classes.tested and findings.least_seeds < 5:
        text = (
            "A class needs more seeds than the whole: with fewer than five, only large differences "
            "stand out."
        )
    sentences = bullets(class_sentence(classes, i) for i in order)
    return Section(heading, [text, sentences, picture(findings, "classes", drawn, caption)])
