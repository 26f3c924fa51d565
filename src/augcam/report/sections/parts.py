"""What several sections share: saving a picture, and the sentences of sections that stay empty."""

import shlex

from matplotlib.figure import Figure

from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.commands import EVALUATE
from augcam.viz import words
from augcam.viz.markdown import code, plain
from augcam.viz.page import Picture

FOLDED = 6  # tables with more rows than this are folded where few will read them


def picture(
    findings: Findings, name: str, figure: Figure, caption: str, few_colours: bool = True
) -> Picture:
    path = findings.figures / f"{name}.png"
    figures.save_figure(figure, path, few_colours)
    return Picture(path, caption, figures.DENSITY)


def nothing_to_compare(findings: Findings) -> str:
    if findings.searched:
        return (
            "A search chose among its trials by validation: on the test set only the chosen one is "
            "shown, so nothing is compared here."
        )
    if findings.study.baseline is None:
        known = words.listed([plain(label) for label in findings.study.groups], most=12)
        return f"There is no baseline: `baseline=LABEL` names one, of {known}."
    return (
        f"Only {plain(findings.study.baseline)} has finished: there is nothing to compare with it."
    )


def not_evaluated(findings: Findings) -> str:
    command = f"{EVALUATE}{shlex.quote(str(findings.standings[0].runs[0].folder))}"
    return f"No run was evaluated yet: {code(command)}, and so for every run, fills this section."


def partly(findings: Findings) -> str:
    runs = [run for several in findings.study.groups.values() for run in several]
    missing = [run for run in runs if run.evaluation is None]
    if not missing:
        return ""
    command = f"{EVALUATE}{shlex.quote(str(missing[0].folder))}"
    absent = f"{len(missing)} of {len(runs)} runs"
    return f" {absent} are not in here: {code(command)} adds the first of them."
