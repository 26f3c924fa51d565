"""What made the study: commands, settings, versions, times, and what is missing."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from augcam.report.analysis import Findings
from augcam.report.commands import EVALUATE, sweep_commands
from augcam.report.load import Run
from augcam.report.sections.parts import FOLDED
from augcam.runs.run_folder import RunFolder
from augcam.viz import markdown, words
from augcam.viz.markdown import code, plain
from augcam.viz.page import Block, Section, Table


def how_it_was_made(findings: Findings) -> Section:
    """Commands, configs, versions, machine, time, and what is missing."""
    study = findings.study
    used = [run for runs in study.groups.values() for run in runs]
    evaluated = [run.evaluation for run in used if run.evaluation]
    commands = sweep_commands(study.groups)
    for images, count in sorted(Counter(one["images"] for one in evaluated).items()):
        commands.append(f"{EVALUATE}DIR n={images}   # {words.plural(count, 'run')}")
    blocks: list[Block] = [markdown.commands(commands)] if commands else []
    several = any("transforms" in values for values in study.differing.values())
    settings = [
        [label, *([str(values.get("transforms", ""))] if several else []), _settings(values)]
        for label, values in study.differing.items()
    ]
    if any(study.differing.values()):
        caption = "The settings in which the augmentations differ; all others are the same."
        columns = ["augmentation", *(["transforms"] if several else []), "settings of its own"]
        blocks.append(Table(columns, settings, caption, folded=len(settings) > FOLDED))
    if facts := _environment(used):
        blocks.append(f"**Versions and machine**: {plain('; '.join(facts))}.")
    where = os.path.commonpath(
        [run.folder.path.absolute().parent for run in study.runs] or [Path()]
    )
    rows = [
        [
            str(run.folder.path.absolute().relative_to(where)), run.state, run.label, str(run.seed),
            _accuracy(run, "val"), "-" if findings.searched else _accuracy(run, "test"),
            words.duration(run.metrics["wall_seconds"]) if run.metrics.get("wall_seconds") else "-",
        ]
        for run in study.runs
    ]  # fmt: skip
    if rows:
        columns = ["run", "state", "augmentation", "seed", "validation, %", "test, %", "wall time"]
        caption = (
            f"All {words.plural(len(rows), 'run')} in {code(where)}; `runs.csv` has more of each."
        )
        blocks.append(Table(columns, rows, caption, folded=len(rows) > FOLDED))
    if study.left_out:
        missing = [[str(folder), why, _log(folder)] for folder, why in study.left_out]
        caption = "Left out: no number above knows of these."
        blocks.append(Table(["folder", "why it is left out", "log"], missing, caption))
    trained = sum(run.metrics.get("wall_seconds") or 0 for run in used)
    looked = sum(evaluation.get("seconds") or 0 for evaluation in evaluated)
    times = [f"{words.duration(trained)} of training"] if trained else []
    times += [f"{words.duration(looked)} of evaluation"] if looked else []
    text = f"{words.listed(times)}." if times else ""
    return Section("How it was made", [text, *blocks])


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.removeprefix('aug.')}={words.six_digits(value)}"
        for key, value in values.items()
        if key != "transforms" and not key.endswith("_target_")
    )


def _environment(runs: Iterable[Run]) -> list[str]:
    """Every fact of the runs' environments; where they differ, each value with its number of runs."""
    facts: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in (run.metrics.get("environment") or {}).items():
            facts.setdefault(key, Counter())[str(value)] += 1

    def listed(values: Counter[str]) -> str:
        if len(values) == 1:
            return next(iter(values))
        return ", ".join(f"{v} ({words.plural(n, 'run')})" for v, n in values.most_common())

    return [f"{key.replace('_', ' ')} {listed(values)}" for key, values in facts.items()]


def _accuracy(run: Run, split: str) -> str:
    accuracy = (run.metrics.get(split) or {}).get("accuracy")
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"


def _log(folder: RunFolder) -> str:
    """The file that tells what went wrong."""
    for path in (folder.failure_file, folder.log_file):
        if path.is_file():
            return str(RunFolder(path))
    return "-"
