"""How long a command takes to answer, and how long until the first training step has ended.

    python bench/startup.py                     # minutes
    python bench/startup.py --rounds 3 model=resnet10       # other words go to the run

Each answer is a new process. In a round every command runs once, in a new order each time; ratios are
within a round: the median and the quartiles. All is warm: two rounds are thrown away.

- `--help` and two mistakes (a choice that there is not, found by Hydra; a value out of range, found by
  AugCAM's schema), beside `python -c "import hydra"`, from start to exit. So is the first mistake in
  the smallest Hydra app, of one key: faster than that no answer from Hydra can be.
- `train.py` from its start to the end of its first training step, beside one `python -c` that imports
  the same libraries, to the end of the imports. The step is seen from outside: an epoch is given one
  batch and no validation, so that the line "epoch 1/..." follows the step at once; then the process is
  killed. That line's images/s say how long fetching and computing the batch took. The last row leaves
  it out: what remains above the imports is reading the config and the data, checks, and the preview.

Whether the `python -c` imports all that the command does is looked up (`-X importtime`), and what only
one of them imports is printed.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from _timing import ROOT, alternated, composed, machine, markdown, ratio, show

PYTHON = [sys.executable]
TRAIN = [str(ROOT / "train.py")]
LIBRARIES = (
    "hydra, omegaconf, pydantic, rich.progress, rich.table, filelock, numpy, PIL.Image, cv2, torch, "
    "torchvision, torchmetrics.classification, pytorch_lightning, albumentations, matplotlib.figure, "
    "torch.utils.tensorboard"
)
SMALLEST_APP = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    pass

main()
"""
ANSWERS = {
    'python -c "import hydra"': (["-c", "import hydra"], 0),
    "the smallest Hydra app, key=1 (no such key)": (["smallest_app.py", "key=1"], 1),
    "train.py --help": ([*TRAIN, "--help"], 0),
    "train.py aug=cutuot (no such choice)": ([*TRAIN, "aug=cutuot"], 2),
    "train.py trainer.max_epochs=0 (out of range)": ([*TRAIN, "trainer.max_epochs=0"], 2),
}
IMPORTS = (["-c", f"import {LIBRARIES}; print('imported')"], r"imported")
FIRST_STEP = r"epoch 1/.* ([\d,]+) img/s"


def until_exit(arguments: list[str], status: int, folder: str) -> float:
    """Seconds of `python ARGUMENTS`; anything but the expected exit status is an error."""
    began = time.perf_counter()
    done = subprocess.run([*PYTHON, *arguments], capture_output=True, text=True, cwd=folder)
    seconds = time.perf_counter() - began
    if done.returncode != status:
        raise RuntimeError(f"{arguments}: exit status {done.returncode}\n{done.stderr}")
    return seconds


def until_line(arguments: list[str], pattern: str, folder: str) -> tuple[float, list[str]]:
    """Seconds until `python ARGUMENTS` says a line like `pattern`, and all that it said until then."""
    said = []
    began = time.perf_counter()
    with subprocess.Popen(
        [*PYTHON, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if re.match(pattern, line):
                seconds = time.perf_counter() - began
                process.kill()
                return seconds, said
    raise RuntimeError(f"{arguments}: ended without a line like {pattern}\n{''.join(said)}")


def packages(arguments: list[str], pattern: str, folder: str) -> set[str]:
    """The packages from outside the standard library that are imported until the line."""
    _, said = until_line(["-X", "importtime", *arguments], pattern, folder)
    names = {m[1] for line in said if (m := re.match(r"import time:.*\| +(\w+)", line))}
    return names - sys.stdlib_module_names - {"augcam"}


def answers(rounds: int, folder: str) -> None:
    """`--help` and mistakes beside `import hydra`."""
    Path(folder, "smallest_app.py").write_text(SMALLEST_APP)
    seconds = alternated(
        {name: partial(until_exit, *answer, folder) for name, answer in ANSWERS.items()}, rounds
    )
    table = markdown("an answer", "command", "s", "beside import hydra", "at most")
    reference = next(iter(seconds.values()))
    for name, found in seconds.items():
        times = "" if found is reference else ratio(found, reference)
        cells = (times, "1.5" if name.startswith("train.py") else "")
        table.add_row(name, f"{statistics.median(found):.3f}", *cells)
    show(table)


def first_step(rounds: int, overrides: list[str], folder: str) -> None:
    """The end of the first training step beside the imports."""
    train = [
        *TRAIN, "trainer.limit_train_batches=1", "trainer.limit_val_batches=0",
        "trainer.log_every_n_steps=1", *overrides,
    ]  # fmt: skip
    batch = composed(*overrides).data.batch_size
    steps: list[float] = []

    def run() -> float:
        seconds, said = until_line(train, FIRST_STEP, folder)
        found = re.match(FIRST_STEP, said[-1])
        assert found
        steps.append(batch / int(found[1].replace(",", "")))
        return seconds

    seconds = alternated({"run": run, "imports": lambda: until_line(*IMPORTS, folder)[0]}, rounds)
    imports = seconds["imports"]
    without = [a - b for a, b in zip(seconds["run"], steps[-rounds:], strict=True)]
    table = markdown("the first training step", "command", "s", "beside the imports", "at most")
    table.add_row(
        "python -c importing the same libraries", f"{statistics.median(imports):.2f}", "", ""
    )
    for name, found, target in (
        ("until the end of the first step", seconds["run"], "1.3"),
        ("the same without the step itself", without, ""),
    ):
        name = f"{' '.join(['train.py', *overrides])}: {name}"
        table.add_row(name, f"{statistics.median(found):.2f}", ratio(found, imports), target)
    show(table)
    ours, theirs = packages(train, FIRST_STEP, folder), packages(*IMPORTS, folder)
    print(f"\nonly train.py imports: {', '.join(sorted(ours - theirs)) or 'nothing'}")
    print(f"only the comparison imports: {', '.join(sorted(theirs - ours)) or 'nothing'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("overrides", nargs="*", help="as for train.py: model=resnet10 ...")
    asked = parser.parse_args()
    print(f"{machine()}; {asked.rounds} rounds")
    # Runs write into a folder that goes away; their data stay where they are.
    os.environ["AUGCAM_DATA"] = str(Path(os.environ.get("AUGCAM_DATA", "data")).absolute())
    os.environ["PYTHONUNBUFFERED"] = "1"  # a line is seen when it is said
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # AugCAM sets it for itself
    with tempfile.TemporaryDirectory() as folder:
        answers(asked.rounds, folder)
        first_step(asked.rounds, asked.overrides, folder)


if __name__ == "__main__":
    main()
