"""Explain a run from its folder alone: galleries, one's own pictures, and whether the maps are true.

python -m augcam.explain run=outputs/DATE_TIME_NAME_ID
python -m augcam.explain run=DIR images='photos/*.jpg'
python -m augcam.explain run=DIR check=all
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from rich import get_console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from augcam import runs
from augcam.cli import nearest, options, reported
from augcam.data.augment import tail
from augcam.errors import UserError
from augcam.explain import faithfulness, gallery
from augcam.explain.cam import METHODS, GradCAM
from augcam.explain.page import write_page
from augcam.pictures import save_png
from augcam.runs import RunFolder, write_atomically

USAGE = """
Explain a finished (or interrupted) run: what its network gets right and wrong on the test set, and
where it looks. Writes PNG figures, one HTML page and a JSON into DIR/explain/, and the same pictures
into the run's TensorBoard.

  python -m augcam.explain run=DIR
  python -m augcam.explain run=DIR images='photos/*.jpg'     your own pictures
  python -m augcam.explain run=DIR classes=cat,dog n=25      two classes alone, more images
  python -m augcam.explain run=DIR check=all                 is the map true? minutes on a CPU
"""


class Options(BaseModel):
    """What `python -m augcam.explain` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[Path, Field(description="folder of the run")]
    images: Annotated[str | None, Field(description="your own pictures, a path with * and ?")] = None
    n: Annotated[int, Field(ge=1, le=100, description="images of each gallery")] = 8
    layers: Annotated[tuple[str, ...], Field(description="target layers")] = (
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )
    method: Annotated[str, Field(description=f"one of {', '.join(METHODS)}")] = "gradcam"
    classes: Annotated[tuple[str, ...], Field(description="true classes; all if not given")] = ()
    checkpoint: Annotated[Literal["last", "best"], Field(description="whose weights")] = "last"
    check: Annotated[
        tuple[str, ...],
        Field(description=f"all, or some of {', '.join(faithfulness.CHECKS)}"),
    ] = ()
    samples: Annotated[int, Field(ge=10, description="test images that the checks use")] = 200
    seed: Annotated[int, Field(ge=0, description="of every random choice")] = 0


@dataclass(frozen=True)
class Explained:
    """A finished run, ready to be asked.

    Attributes:
        network: in evaluation mode, float32, on the CPU or the GPU.
        normalise: uint8 images (B, H, W, 3) to the network's input (B, 3, H, W).
        images, labels, masks: the test set; masks are None where none are known.
        predicted, confidence: what the network says of each test image.
    """

    folder: RunFolder
    network: nn.Module
    classes: tuple[str, ...]
    normalise: Callable[[np.ndarray], Tensor]
    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    predicted: np.ndarray
    confidence: np.ndarray

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (B, C) of normalised images (B, 3, H, W)."""
        with torch.inference_mode():
            probabilities: Tensor = self.network(images).softmax(dim=1)
        return probabilities


def open_run(folder: RunFolder, checkpoint: str, progress: Progress) -> Explained:
    """The run's network and test set, and the predictions that it kept or else makes now."""
    config = folder.config()
    source = runs.build_source(config)
    source.prepare()
    path = folder.last if checkpoint == "last" else folder.best
    network = runs.load_network(folder, path, len(source.classes))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    test = source.test()

    def normalise(images: np.ndarray) -> Tensor:
        return tail(torch.from_numpy(np.ascontiguousarray(images)).to(device), source.mean, source.std)

    kept = folder.predictions_file
    if checkpoint == "last" and kept.is_file():
        with np.load(kept) as saved:
            predicted, confidence = saved["predicted"], saved["confidence"]
        if len(predicted) != len(test.labels):
            raise UserError(
                f"{kept}: {len(predicted)} predictions for {len(test.labels)} test images; "
                "was the run limited with trainer.limit_test_batches? use checkpoint=best"
            )
    else:
        task = progress.add_task("predicting the test set", total=len(test.labels))
        found = []
        with torch.inference_mode():
            for start in range(0, len(test.labels), 200):
                found.append(network(normalise(test.images[start : start + 200])).softmax(1).cpu())
                progress.update(task, advance=len(found[-1]))
        top = torch.cat(found).max(dim=1)
        predicted, confidence = top.indices.numpy(), top.values.numpy()
    return Explained(
        folder,
        network,
        source.classes,
        normalise,
        test.images,
        test.labels,
        test.masks,
        predicted.astype(np.int64),
        confidence.astype(np.float32),
    )
