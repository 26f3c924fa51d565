"""Compare many runs on one page: which augmentation, for which class, and why.

augcam report outputs/sweeps/NAME
augcam report DIR DIR2 out=comparison baseline=flip

torch and what needs it are imported late: `--help` and a wrong option are answered in a second.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from rich import get_console

from augcam.cli.arguments import GivenPath, folders_and_options, options
from augcam.errors import UserError
from augcam.report.write import write_report

USAGE = """
Compare runs: which augmentation is best, for which class, what it costs and where the networks look.
Reads every run in the folders given, also while some still run, and trains nothing. Writes
report.html (one file, no network needed), report.md, runs.csv and figures/.

  augcam report DIR                      a sweep, or a folder with runs anywhere below
  augcam report DIR baseline=flip        compare with another augmentation than none
  augcam report DIR DIR2 out=DIR3        several folders

Robustness and where the networks look need `augcam evaluate run=DIR` for each run first.
"""


class Options(BaseModel):
    """What `augcam report` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    baseline: Annotated[
        str | None, Field(description="compare with this augmentation; none if there is one")
    ] = None
    out: Annotated[
        GivenPath | None, Field(description="folder to write into; DIR if not given")
    ] = None


def main(arguments: Sequence[str]) -> None:
    """Take the folders and the options apart, write the report, and say where it is."""
    folders, rest = folders_and_options(arguments)
    asked = options(Options, rest, USAGE)
    if not folders:
        raise UserError("which runs? augcam report DIR; --help says more")
    page = write_report(folders, asked.baseline, asked.out)
    get_console().print(str(page), soft_wrap=True, markup=False, highlight=False)
