"""The example report of drawn shapes, from its commands to docs/examples.

    python bench/examples.py run outputs/examples     # started again, it goes on where it was
    python bench/examples.py keep outputs/examples    # its page, to docs/examples/NAME

Of the ten shapes the bowtie is the hourglass on its side (`data.orientation_pair=true`), so that it is
known which classes a large rotation must hurt. docs/examples/cifar10 has its commands at its end.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from augcam.cli.errors import reported
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder

ROOT = Path(__file__).parents[1]

BUDGET = "experiment=quickstart data.orientation_pair=true hydra.launcher.n_jobs=2"
SEEDS = "seed=1,2,3,4,5"
# What varies, and the label of the group that the others are compared with.
STUDIES = {
    "rotation": (
        "aug=rotate aug.rotate.p=1 aug.rotate.limit=0,45,90,180",
        "rotate, aug.rotate.limit=0",
    ),
}
EVALUATED = ("n=100", "samples=20")  # test images


def run(folder: str) -> int:
    """Train the studies, evaluate their runs and write their reports; the first status that is not 0."""
    for name, (words, baseline) in STUDIES.items():
        sweep = f"{folder}/{name}"
        for command in (
            ["train", "-m", *BUDGET.split(), *words.split(), SEEDS, f"sweep.dir={sweep}"],
            ["evaluate", f"run={sweep}", *EVALUATED],
            ["report", sweep, f"baseline={baseline}"],
        ):
            if status := subprocess.call([sys.executable, "-m", "augcam", *command]):
                return status
    return 0


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
