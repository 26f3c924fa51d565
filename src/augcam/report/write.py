"""A study -> report.html, report.md, runs.csv and figures/.

torch and what needs it are imported late: `--help` and a wrong option are answered in a second.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import get_console
from rich.progress import Progress

from augcam.atomic import write_atomically
from augcam.errors import UserError
from augcam.metrics import METRICS

if TYPE_CHECKING:
    from augcam.report.load import Study


def write_report(
    paths: Sequence[Path], baseline: str | None = None, out: Path | None = None
) -> Path:
    """Read the runs in `paths` and write the page and its companions.

    Args:
        paths: run folders, sweeps, or folders with runs anywhere below.
        baseline: label of the group to compare with; None takes the one without augmentation.
        out: folder to write into, made if need be; None takes the only path.

    Returns:
        `report.html`.

    Raises:
        UserError: no runs, runs that cannot be compared, an unknown baseline, or several paths and
            no `out`.
    """
    if out is None and len(paths) != 1:
        raise UserError(f"{len(paths)} folders: out=DIR must say where the report goes")
    from augcam.report.analysis import find
    from augcam.report.key_points import key_points, summary, warnings
    from augcam.report.load import read_study
    from augcam.report.sections import SECTIONS
    from augcam.report.sections.how_it_was_made import how_it_was_made
    from augcam.viz.page import Page, write_html, write_markdown

    out = Path(out or paths[0])
    console = get_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading the runs", total=None)
        study = read_study(paths, baseline)
        progress.update(task, description="comparing them")
        out.mkdir(parents=True, exist_ok=True)
        findings = find(study, out / "figures")
        parts = SECTIONS if study.groups else (how_it_was_made,)
        sections = (
            part(findings) for part in progress.track(parts, task_id=task, description="writing")
        )
        written = [section for section in sections if section]
        page = Page(
            "What each augmentation does", summary(findings), written, key_points(findings),
            warnings(findings),
        )  # fmt: skip
        write_markdown(out / "report.md", page)
        write_table(out / "runs.csv", study)
        write_html(out / "report.html", page)
    return out / "report.html"


def write_table(path: Path, study: "Study") -> None:
    """runs.csv: a line for every run, finished or not. Accuracies are 0..1."""
    rows = []
    for run in study.runs:
        metrics = run.metrics
        row: dict[str, Any] = {
            "folder": str(run.folder),
            "state": run.state,
            "label": run.label,
            "in_report": not run.why,
            "why_not": run.why,
            "seed": run.seed,
            "aug": metrics.get("aug"),
            "epochs": metrics.get("epochs"),
            "wall_seconds": metrics.get("wall_seconds"),
            "train_images_per_second": metrics.get("train_images_per_second"),
        }
        for split in ("val", "test"):
            result = metrics.get(split) or {}
            for key in (metric.name for metric in METRICS):
                row[f"{split}_{key}"] = result.get(key)
            by_class = result.get("accuracy_per_class") or {}
            row |= {f"{split}_accuracy_{name}": by_class.get(name) for name in study.classes}
        rows.append(row)
    text = io.StringIO()
    if rows:
        table = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    write_atomically(path, text.getvalue())
