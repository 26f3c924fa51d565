"""TensorBoard as AugCAM's runs need it.

augcam board
augcam board outputs/sweeps/NAME port=6007
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from augcam.cli.arguments import folders_and_options, options
from augcam.errors import UserError

USAGE = """
Start TensorBoard on a folder of runs, reachable from this machine alone, with up to 1,000 pictures of
each kind; by itself it keeps ten.

  augcam board                             every run in outputs
  augcam board outputs/sweeps/NAME         one sweep
"""


class Options(BaseModel):
    """What `augcam board` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    port: Annotated[int, Field(ge=0, lt=65536, description="0 takes a free one")] = 6006


def main(arguments: Sequence[str]) -> None:
    """Turn this process into TensorBoard's."""
    folders, rest = folders_and_options(arguments)
    asked = options(Options, rest, USAGE)
    if len(folders) > 1:
        given = " ".join(map(str, folders))
        raise UserError(f"{given}: one folder at a time; the one above shows them all")
    folder = Path(*folders) if folders else Path("outputs")
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if asked.port:  # a free one is TensorBoard's to choose
        page = f"http://localhost:{asked.port}/"
        print(f"{page}#images&tagFilter=gradcam   where the network looks, epoch by epoch")
        print(
            f"{page}#custom_scalars             curves, and the accuracy of each class", flush=True
        )
    flags = ["--logdir", str(folder), "--samples_per_plugin", "images=1000"]
    flags += ["--host", "localhost", "--port", str(asked.port)]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *flags])
