"""What `augcam audit` says of each augmentation's networks: which of them cures which shortcut."""

from collections import Counter

from augcam.report.analysis import Findings
from augcam.report.audits import audits
from augcam.report.load import Run
from augcam.report.sections.parts import FOLDED
from augcam.viz import words
from augcam.viz.markdown import bullets
from augcam.viz.page import Block, Section, Table


def shortcuts(findings: Findings) -> Section | None:
    """A row for each augmentation of which a run was audited; None where there is none."""
    found, problems = audits(findings)
    rows = [
        _row(standing.label, standing.runs, found[standing.label])
        for standing in findings.standings
        if standing.label in found
    ]
    if not rows and not problems:
        return None
    blocks: list[Block] = []
    if rows:
        columns = [
            "augmentation", "audited runs", "shortcut, classes a run", "look, classes a run",
            "shortcut", "look",
        ]  # fmt: skip
        caption = (
            "Classes by what `augcam audit` says of them, mean over the audited runs; behind a name in "
            "how many of these runs. A shortcut is what makes a network name the class in images of "
            "other classes, tested at 5% over all classes of a run together. Whether two augmentations "
            "differ is not tested."
        )
        blocks.append(Table(columns, rows, caption, folded=len(rows) > FOLDED))
    if problems:
        blocks.append(bullets(problems))
    return Section("What each class is known by", blocks)


def _row(label: str, runs: tuple[Run, ...], audits: list[dict[str, str]]) -> list[str]:
    cells = [label, f"{len(audits)} of {len(runs)}"]
    counts = {
        verdict: Counter(name for one in audits for name, said in one.items() if said == verdict)
        for verdict in ("shortcut", "look")
    }
    cells += [f"{count.total() / len(audits):.1f}" for count in counts.values()]
    for count in counts.values():
        named = [f"{name} {times}/{len(audits)}" for name, times in count.most_common()]
        cells.append(words.listed(named) if named else "-")
    return cells
