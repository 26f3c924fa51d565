"""`augcam evaluate`: measure a finished run, or all of a sweep."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich import get_console

from augcam.cli.arguments import DataRoot, GivenPath, options
from augcam.cli.errors import for_each_run
from augcam.data.cifar10c import STANDARD, Cifar10C, open_cifar10c
from augcam.evaluation import Checkpoint, kept, measure_run
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars
from augcam.viz.words import listed

USAGE = """
Measure a finished run on a subset of the test images, stratified by class: calibration, accuracy
under 15 corruptions x 5 severities, Grad-CAM maps and how faithful and how concentrated they are. Writes
DIR/evaluation.json and DIR/evaluation.npz, which augcam report reads. What is there already
is not computed again.

  augcam evaluate run=DIR
  augcam evaluate run=SWEEP           every finished run of a sweep
  augcam evaluate run=DIR n=10000     every test image of CIFAR-10
  augcam evaluate run=DIR corruptions=CIFAR-10-C     on the official corrupted images as well
"""


class Options(BaseModel):
    """What `augcam evaluate` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[GivenPath, Field(description="folder of the run, or of a sweep")]
    n: Annotated[int, Field(ge=10, description="test images, or all if there are fewer")] = 1000
    samples: Annotated[int, Field(ge=10, description="of these, for insertion and deletion")] = 200
    checkpoint: Annotated[Checkpoint, Field(description="whose weights")] = "last"
    seed: Annotated[int, Field(ge=0, description="of every random choice")] = 0
    corruptions: Annotated[
        GivenPath | None, Field(description="folder of CIFAR-10-C, unpacked, to measure on as well")
    ] = None
    data_root: DataRoot = None


def main(arguments: list[str]) -> None:
    """Evaluate the run that was asked for, or all finished ones below; what is done is left alone."""
    asked = options(Options, arguments, USAGE)
    settings = asked.model_dump(exclude={"run", "corruptions", "data_root"})
    if asked.corruptions:
        settings["official"] = _looked_through(asked.corruptions)
    for_each_run(asked.run, lambda folder: evaluate_once(folder, settings), asked.data_root)


def _looked_through(folder: Path) -> Cifar10C:
    """The folder's files, once for all runs; prints which of them are not official."""
    official = open_cifar10c(folder)
    if official.others:
        get_console().print(
            f"{folder}: not the official files of CIFAR-10-C, by their MD5: "
            f"{listed([f'{name}.npy' for name in official.others])}; what is measured on them compares "
            "with no published number",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    return official


def evaluate_once(folder: RunFolder, settings: dict[str, Any]) -> None:
    """Evaluate one run with a progress bar, unless that is done already; say what came out."""
    console = get_console()
    record = kept(folder, **settings)
    if record:
        console.print(f"already evaluated: {folder.evaluation_file}", soft_wrap=True, markup=False)
        return
    with progress_bars() as progress:
        record = measure_run(folder, **settings, progress=progress)
    robust = np.mean(list(record["corruptions"].values()))
    official = ""
    if "cifar10c" in record:
        by_name = record["cifar10c"]["corruptions"]
        standard = np.mean([by_name[name] for name in STANDARD])
        official = f", {standard:.1%} on the {len(STANDARD)} of CIFAR-10-C"
    console.print(
        f"{record['images']:,} of {record['test_images']:,} test images: accuracy "
        f"{record['accuracy']:.1%}, ECE {record['ece']:.3f}; {robust:.1%} under corruptions{official}; "
        f"{record['seconds']:.0f} s\n{folder.evaluation_file}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
