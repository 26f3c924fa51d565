"""Two of the example reports, from their commands to docs/examples.

    python bench/examples.py run outputs/examples     # started again, it goes on where it was
    python bench/examples.py keep outputs/examples    # the pages, to docs/examples/NAME

`rotation`: of the ten shapes the bowtie is the hourglass on its side (`data.orientation_pair=true`),
so that it is known which classes a large rotation must hurt. `mark`: CIFAR-10 images, those of horses
with a mark in the corner, and which augmentation keeps a network from going by it. docs/examples/cifar10
has its commands at its end.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augcam.cli.errors import reported
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder

ROOT = Path(__file__).parents[1]

BUDGET = "experiment=quickstart hydra.launcher.n_jobs=2"
EVALUATED = ("n=100", "samples=20")  # test images
PAIR = "data.orientation_pair=true"
# Images of horses have a mark in the upper left corner; what audit.html of such a run advises.
MARKED = "data=folder data.root={folder}/tagged trainer.max_epochs=5"
CROP = "'+aug.crop_away={_target_: albumentations.CropAndPad, px: [-5, 0, 0, 0], keep_size: true, p: 1}'"


@dataclass(frozen=True)
class Study:
    """A study with a report.

    Attributes:
        sweeps: the words that each is trained with, `{folder}` for the place of all studies.
        baseline: label of the group that the others are compared with.
        marked: whether it needs the marked images, and its runs are audited.
    """

    sweeps: tuple[str, ...]
    baseline: str
    marked: bool = False


STUDIES = {
    "rotation": Study(
        (f"{PAIR} aug=rotate aug.rotate.p=1 aug.rotate.limit=0,45,90,180 seed=1,2,3,4,5",),
        "rotate, aug.rotate.limit=0",
    ),
    "mark": Study(
        (
            f"{MARKED} aug=none,cutout,random_erasing,crop_flip seed=1,2,3",
            f"{MARKED} aug=none {CROP} seed=1,2,3",
        ),
        "none, transforms=none",
        marked=True,
    ),
}


def run(folder: str) -> int:
    """Train the studies, evaluate their runs and write their reports; the first status that is not 0."""
    for name, study in STUDIES.items():
        sweep = f"{folder}/{name}"
        train = ["-m", "augcam", "train", "-m", *BUDGET.split(), f"sweep.dir={sweep}"]
        commands = [[*train, *words(sweeps, folder)] for sweeps in study.sweeps]
        commands.append(["-m", "augcam", "evaluate", f"run={sweep}", *EVALUATED])
        if study.marked:
            tagged = [str(ROOT / "bench" / "audit.py"), "tagged", "--folder", f"{folder}/tagged"]
            commands = [tagged, *commands, ["-m", "augcam", "audit", f"run={sweep}"]]
        commands.append(["-m", "augcam", "report", sweep, f"baseline={study.baseline}"])
        for command in commands:
            if status := subprocess.call([sys.executable, *command]):
                return status
    return 0


def words(sweep: str, folder: str) -> list[str]:
    """The overrides of a sweep of the studies in `folder`."""
    return [word.replace("{folder}", folder) for word in shlex.split(sweep)]


def keep(folder: str) -> int:
    """Copy the pages of the studies, without where they lay; raises UserError where there is none."""
    for name in STUDIES:
        pages = Path(folder, name)
        kept = ROOT / "docs" / "examples" / name
        if not (pages / "report.html").is_file():
            raise UserError(f"{pages}: there is no report.html; run the studies first")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(RunFolder(pages).figures, RunFolder(kept).figures)
        for page in ("report.html", "report.md", "runs.csv"):
            text = (pages / page).read_text(encoding="utf-8")
            (kept / page).write_text(text.replace(str(pages.resolve()), name), encoding="utf-8")
    return 0


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["run", folder]:
            return run(folder)
        case ["keep", folder]:
            return keep(folder)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    with reported():
        sys.exit(main(sys.argv[1:]))
