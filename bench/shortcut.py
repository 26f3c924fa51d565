"""Does a network look at the tag or at the shape? For docs/shortcut.md.

    python bench/shortcut.py outputs/HONEST outputs/TAG outputs/TAG_WITH_CUTOUT

For runs on `data=shapes`, in columns: accuracy on the run's own test set; on the same images without
any tag; how often the network says the tag's class where every image has the tag of another class than
its own; and there, how much of the Grad-CAM of the predicted class (layer4) lies in the one of its 16
cells that holds the tag, and how often its peak does. A map without a preference has 1/16 there, 6%.
Maps that show no evidence at all lie nowhere and are left out; the last column says how many.
"""

import sys

import numpy as np
import torch
from rich import get_console
from rich.table import Table

from augcam.cli.errors import reported
from augcam.config.schema import ShapesConfig
from augcam.data.datasets.shapes import draw, tag_box, tag_colours
from augcam.explain.cam import GradCAM
from augcam.runs.finished_run import open_run
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars


def main(folders: list[str]) -> None:
    """Print one row a run."""
    table = Table(
        "run", "test", "no tags", "says the tag", "mass at the tag", "peak at the tag", "maps"
    )
    with progress_bars() as progress:
        for name in folders:
            run = open_run(RunFolder(name), "last", progress)
            data = RunFolder(name).config().data
            assert isinstance(data, ShapesConfig), "runs on data=shapes"
            images, labels, _ = draw("test", data.seed, data.test_size, shortcut=1.0)
            bare, _, _ = draw("test", data.seed, data.test_size, shortcut=0.0)
            seen = [run.predict(run.normalize(part)).argmax(1) for part in np.array_split(bare, 8)]
            planted = tagged_with(images)
            stranger = planted != labels  # a tag that happens to be right tells nothing apart
            images, planted = images[stranger], planted[stranger]
            said, inside, peaks = [], [], []
            with GradCAM(run.network, layers=("layer4",)) as cam:
                for part in np.array_split(images, len(images) // 250):
                    maps = cam(run.normalize(part))
                    said.append(maps.logits.argmax(1))
                    raw = maps["layer4"].raw.relu().flatten(1)
                    raw = raw[raw.sum(1) > 0]  # no evidence lies nowhere
                    inside.append(raw[:, 0] / raw.sum(1))
                    peaks.append(raw.argmax(1) == 0)
            table.add_row(
                RunFolder(name).config().name,
                f"{(run.predicted == run.labels).mean():.1%}",
                f"{(torch.cat(seen).numpy() == labels).mean():.1%}",
                f"{(torch.cat(said).numpy() == planted).mean():.1%}",
                f"{torch.cat(inside).mean().item():.1%}",
                f"{torch.cat(peaks).float().mean().item():.1%}",
                f"{len(torch.cat(peaks))} of {len(images)}",
            )
    get_console().print(table)


def tagged_with(images: np.ndarray) -> np.ndarray:
    """The class whose colour fills the tag's place, -1 where none does: int (N,)."""
    top, left, bottom, right = tag_box()
    patch = images[:, top:bottom, left:right].reshape(len(images), -1, 3)
    same = (patch[:, None] == tag_colours()[None, :, None]).all((2, 3))
    return np.where(same.any(1), same.argmax(1), -1)


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
