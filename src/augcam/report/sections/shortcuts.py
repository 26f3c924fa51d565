"""What `augcam audit` says of each augmentation's networks: which of them cures which shortcut."""

from collections import Counter

from augcam.errors import UserError
from augcam.report.analysis import Findings
from augcam.report.load import Run
from augcam.report.read_run import first_line, read_audit
from augcam.report.sections.parts import FOLDED
from augcam.viz import words
from augcam.viz.markdown import bullets, plain
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


def audits(findings: Findings) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """The verdicts on each class of each audited run, by augmentation; and what cannot be read."""
    found: dict[str, list[dict[str, str]]] = {}
    problems = []
    for standing in findings.standings:
        for run in standing.runs:
            try:
                verdicts = read_audit(run.folder, run.metrics.get("classes", ()))
            except UserError as error:
                problems.append(f"Not in here: {plain(run.folder)}: {plain(first_line(error))}.")
                continue
            if verdicts is not None:
                found.setdefault(standing.label, []).append(verdicts)
    return found, problems


def shortcut_point(findings: Findings) -> list[str]:
    """Which classes are known by a shortcut under which augmentation, and under which none is."""
    found, _ = audits(findings)
    known, clean = [], []
    for label, verdicts in found.items():
        counts = Counter(
            name for one in verdicts for name, said in one.items() if said == "shortcut"
        )
        if not counts:
            clean.append(plain(label))
            continue
        named = words.listed([f"{plain(name)} {n}" for name, n in counts.most_common()])
        known.append(f"{plain(label)} ({named} of {words.plural(len(verdicts), 'run')})")
    if not known:
        return []
    point = f"**Classes known by a shortcut** (`augcam audit`): under {words.listed(known)}"
    return [f"{point}; under {words.listed(clean)} none." if clean else f"{point}."]


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
