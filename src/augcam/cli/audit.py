"""`augcam audit`: is the evidence of each class where it should be?"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from rich import get_console

from augcam.atomic import remove_leftovers, write_atomically
from augcam.cli.arguments import options
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars

USAGE = """
Ask of each class whether the network goes by the object or by what merely comes with it: parts and
properties of its images are put into images of other classes, and what makes the network say the class
there is named. Writes DIR/audit.html, a page with pictures of each verdict and every image, and
DIR/audit.json. docs/audit.md has the verdicts' meaning and their error rates.

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
    from augcam.audit.page import write_audit_page
    from augcam.audit.stability import geometric
    from augcam.audit.words import sentence
    from augcam.data.datasets.base import ImageSet
    from augcam.runs.build import build_run_pipeline
    from augcam.runs.finished_run import open_run, run_source

    with folder.locked("audit"), progress_bars() as progress:
        run = open_run(folder, "last", progress)
        source, config = run_source(folder), folder.config()
        task = progress.add_task("images through the network", total=None)
        result = audit(
            run.network,
            ImageSet(run.images, run.labels, run.masks),
            class_names=run.classes,
            mean=source.mean,
            std=source.std,
            seed=asked.seed,
            transforms=geometric(build_run_pipeline(config, source).transforms),
            images=asked.n,
            progress=lambda images: progress.advance(task, images),
        )
        write_atomically(folder.audit_file, json.dumps(result.to_json(), indent=1) + "\n")
        remove_leftovers(folder.audit)
        write_audit_page(
            folder.audit_page,
            folder.audit,
            result,
            title=f"By what {config.name} knows each class",
            summary=f"{config.model.label} on {config.data.name}, {result.settings['images']:,} test "
            f"images, {result.settings['accuracy']:.1%} of them correct.",
            recorded=folder.overrides(),
            there=config.aug,
        )
    console = get_console()
    size = result.subject.size
    for line in [*(sentence(one, size) for one in result.classes), str(folder.audit_page)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
