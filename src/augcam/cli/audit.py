"""`augcam audit`: is the evidence of each class where it should be?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field
from rich import get_console

from augcam.atomic import write_atomically
from augcam.cli.arguments import options
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars

if TYPE_CHECKING:
    from augcam.audit.measure import ClassAudit

USAGE = """
Ask of each class whether the network goes by the object or by what merely comes with it: parts and
properties of its images are put into images of other classes, and what makes the network say the class
there is named. Writes DIR/audit.json. docs/audit.md has the verdicts' meaning and their error rates.

  augcam audit run=DIR
  augcam audit run=DIR n=2000        more of the test images
"""


class Options(BaseModel):
    """What `augcam audit` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[Path, Field(description="folder of the run")]
    n: Annotated[int, Field(ge=50, description="test images, or all if there are fewer")] = 1000
    seed: Annotated[int, Field(ge=0, description="of every random choice")] = 0


def main(arguments: list[str]) -> None:
    """Audit the run that was asked for, keep the verdicts and print them.

    Raises:
        UserError: not a run folder, nothing can be written there, or another audit works there.
    """
    asked = options(Options, arguments, USAGE)
    folder = RunFolder(asked.run)
    folder.config()  # is it a run at all? before torch is imported
    folder.require_writable()

    from augcam.audit import audit
    from augcam.data.datasets.base import ImageSet
    from augcam.runs.finished_run import open_run, run_source

    with folder.locked("audit"), progress_bars() as progress:
        run = open_run(folder, "last", progress)
        source = run_source(folder)
        task = progress.add_task("images through the network", total=None)
        result = audit(
            run.network,
            ImageSet(run.images, run.labels),
            class_names=run.classes,
            mean=source.mean,
            std=source.std,
            seed=asked.seed,
            images=asked.n,
            progress=lambda images: progress.advance(task, images),
        )
        write_atomically(folder.audit_file, json.dumps(result.to_json(), indent=1) + "\n")
    console = get_console()
    for line in [*map(sentence, result.classes), str(folder.audit_file)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def sentence(one: "ClassAudit") -> str:
    """The verdict on a class in a line: what was found, and how often it makes the network say so."""
    words = f"{one.name}: {one.verdict.replace('_', ' ')}"
    if one.verdict not in ("shortcut", "context"):
        return f"{words} ({one.reason})"
    cause = one.patch or one.found
    assert cause is not None  # these two verdicts rest on one
    if one.patch is None or one.patch.region is None:
        where = one.found.name if one.found else "a small part, anywhere in the image"
    else:
        top, left, bottom, right = one.patch.region.box
        where = f"rows {top} to {bottom}, columns {left} to {right}"
    return (
        f"{words}: {where}. Put into images of other classes it makes the network say {one.name} in "
        f"{cause.effect.follow_rate:.0%}, its control in {cause.effect.control_rate:.0%} "
        f"(adjusted p {one.p:.2g})"
    )
