"""The page's sections, one file each: findings -> words, tables and pictures.

A section that the study gives no occasion for is None.
"""

from collections.abc import Callable

from augcam.report.analysis import Findings
from augcam.report.sections.by_class import by_class
from augcam.report.sections.confusions import confusions
from augcam.report.sections.curves import curves
from augcam.report.sections.how_it_was_made import how_it_was_made
from augcam.report.sections.ranking import ranking
from augcam.report.sections.robustness import robustness
from augcam.report.sections.shortcuts import shortcuts
from augcam.report.sections.value_curves import value_curves
from augcam.report.sections.where_they_look import where_they_look
from augcam.viz.page import Section

SECTIONS: tuple[Callable[[Findings], Section | None], ...] = (
    ranking,
    by_class,
    value_curves,
    curves,
    confusions,
    where_they_look,
    robustness,
    shortcuts,
    how_it_was_made,
)
