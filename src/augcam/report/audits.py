"""What `augcam audit` said of a study's runs, by augmentation."""

from collections import Counter

from augcam.errors import UserError, first_line
from augcam.report.analysis import Findings
from augcam.report.read_run import read_audit
from augcam.viz import words
from augcam.viz.markdown import code, plain


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
            clean.append(code(label))
            continue
        named = words.listed([f"{plain(name)} {n}" for name, n in counts.most_common()])
        known.append(f"{code(label)} ({named} of {words.plural(len(verdicts), 'run')})")
    if not known:
        return []
    point = f"**Classes known by a shortcut** (`augcam audit`): under {words.listed(known)}"
    if clean:
        point += f"; under {words.listed(clean)} no class"
    return [f"{point}. Each run was tested by itself: augmentations are not compared."]
