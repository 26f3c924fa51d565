"""docs/results.md, docs/ablation.md and README's table, from the metrics.json files of real runs.

    python bench/results.py keep seed_c outputs/RUN ...   # copy what is needed to docs/results/seed_c/
    python bench/results.py keep ablation outputs/ablation
    python bench/results.py                               # write the pages from what is kept

A row without runs says "not run". Only what others report, and the note on
how D starts, are written by hand.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation import BUDGET, CHANGES, SEEDS
from scipy import stats

from augcam.cli import reported
from augcam.errors import UserError
from augcam.folder import RunFolder, write_atomically
from augcam.pictures import curves_figure, figure_array, save_png
from augcam.report.words import duration, signed

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "results"
TESTED = "tested_every_epoch_"  # the references' protocol, kept apart

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """One row of the table: a command, and what others report.

    `theirs` are test accuracies (%) after each of the first epochs, as the reference's log has them.
    """

    key: str
    title: str
    command: str
    reported: str
    must_beat: str
    aim: str
    epochs: int
    gpu: bool = True
    theirs: Sequence[float] = ()


RECIPES = (
    Recipe("seed_c", "C: rotate and flip", "python train.py experiment=seed/c",
           "87.21 (jai-mr/Assignment-9)", "87.21", "89", 15, theirs=(64, 72, 78, 78, 81)),
    Recipe("seed_d", "D: colour, flip, rotate, cutout", "python train.py experiment=seed/d",
           "92.14 best, 92.06 last (uday96/EVA4-TSAI)", "92.14", "93.5", 35,
           theirs=(55, 67, 71, 73, 70)),
    Recipe("seed_e", "E: flip, rotate, exposure, cutout", "python train.py experiment=seed/e",
           "91.57 (AkhilP9182/EVA5)", "91.57", "93", 35, theirs=(57, 67, 74, 75, 76)),
    Recipe("cutout_rotate", "cutout_rotate",
           "python train.py aug=cutout_rotate trainer.max_epochs=35",
           "93.02 (kuangliu/pytorch-cifar, 200 epochs)", "93.02", "94.5", 35),
    Recipe("paper_crop_flip", "paper: crop and flip",
           "python train.py experiment=paper/cutout aug=crop_flip",
           "95.28 (DeVries and Taylor, n = 5)", "", "", 200),
    Recipe("paper_crop_flip_cutout", "paper: with cutout",
           "python train.py experiment=paper/cutout",
           "96.01 (DeVries and Taylor, n = 5)", "", "+0.73 over crop and flip", 200),
    Recipe("flagship", "flagship", "python train.py experiment=flagship",
           "", "95.5", "96.0", 35),
    Recipe("cpu_budget", "cpu_budget: one hour, two CPU cores",
           "python train.py experiment=cpu_budget", "", "87", "91", 8, gpu=False),
)  # fmt: skip


def keep(key: str, folders: Iterable[str]) -> None:
    """Copy of each run's metrics.json what the pages need, without paths, and its log, epoch by epoch.

    Raises:
        UserError: the key is no row, or a folder has no metrics.json.
    """
    known = {recipe.key for recipe in RECIPES} | {f"ablation/{change}" for change in CHANGES}
    if key not in known:
        raise UserError(f"{key}: no such row; valid: {', '.join(sorted(known))}")
    for folder in map(RunFolder, folders):
        metrics = folder.metrics()
        if metrics is None:
            raise UserError(f"{folder}: no metrics.json; has the run ended or been stopped?")
        asked = folder.config_file.with_name("overrides.yaml").read_text().splitlines()
        config = metrics.pop("config")
        metrics |= {
            "holdout": config["data"]["holdout"],
            "max_epochs": config["trainer"]["max_epochs"],
            "overrides": [
                line.removeprefix("- ").strip("'")
                for line in asked
                if not re.match(r"- '?(hydra|sweep|data\.root|trainer\.enable_progress)", line)
            ],
            "history": [{k: row[k] for k in _HISTORY if k in row} for row in metrics["history"]],
        }
        prefix = TESTED if metrics["holdout"] == "test" else ""
        target = KEPT / key / f"{prefix}seed{metrics['seed']}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(metrics, separators=(",", ":")) + "\n")
        log = (folder.path / "train.log").read_text().splitlines(keepends=True)
        ends_of_epochs = "".join(line for line in log if " batch " not in line)
        write_atomically(target.with_suffix(".log"), ends_of_epochs)
        print(f"{target.relative_to(ROOT)}: {metrics['status']} after {metrics['epochs']} epochs")


_HISTORY = ("epoch", "train/accuracy", "val/accuracy", "wall_seconds")


def kept(key: str, prefix: str = "") -> list[Metrics]:
    """The runs of a row, by seed; with `TESTED` those that were validated on the test set."""
    paths = sorted((KEPT / key).glob(f"{prefix}seed*.json"))
    return [json.loads(path.read_text()) for path in paths]


def mean_and_spread(accuracies: Sequence[float]) -> str:
    """`93.40 ± 0.12 (n = 3)` of accuracies in 0..1: mean and standard deviation, in percent."""
    percent = 100 * np.asarray(accuracies)
    spread = f" ± {percent.std(ddof=1):.2f}" if len(percent) > 1 else ""
    return f"{percent.mean():.2f}{spread} (n = {len(percent)})"


def difference(group: Sequence[float], base: Sequence[float]) -> str:
    """Welch's 95% interval of a difference of mean accuracies, in points: `+0.7 (+0.2 to +1.2)`."""
    a, b = 100 * np.asarray(group), 100 * np.asarray(base)
    middle = signed(a.mean() - b.mean(), 2)
    if min(len(a), len(b)) < 2:
        return middle
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return f"{middle} ({signed(interval.low, 2)} to {signed(interval.high, 2)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def whole(recipe: Recipe) -> list[Metrics]:
    """The runs that did all of the recipe's epochs."""
    return [
        run
        for run in kept(recipe.key)
        if run["status"] == "finished" and run["max_epochs"] == recipe.epochs
    ]


def accuracy_cell(recipe: Recipe) -> str:
    """The test accuracy after the last epoch, or how far the recipe's runs got."""
    runs = whole(recipe)
    if runs:
        return mean_and_spread([run["test"]["accuracy"] for run in runs])
    shorter = [run for run in kept(recipe.key) if run["status"] == "finished"]
    if shorter:
        epochs = ", ".join(sorted({str(run["max_epochs"]) for run in shorter}))
        return (
            f"{mean_and_spread([run['test']['accuracy'] for run in shorter])} after {epochs} epochs; "
            "whole: not run"
        )
    return "not run" + (": needs a GPU" if recipe.gpu else "")


def headline() -> str:
    """The table that README and docs/results.md share."""
    rows = []
    for recipe in RECIPES:
        runs = kept(recipe.key)
        done = whole(recipe) or [run for run in runs if run["status"] == "finished"]
        seconds = duration(float(np.mean([r["wall_seconds"] for r in done]))) if done else ""
        device = done[0]["environment"]["device"] if done else ""
        rows.append([
            recipe.title, f"`{recipe.command}`", str(recipe.epochs), accuracy_cell(recipe),
            recipe.must_beat, recipe.aim, recipe.reported, seconds, device,
        ])  # fmt: skip
    return table(
        ["recipe", "command", "epochs", "test accuracy, %", "to beat", "aim", "reported by others",
         "time of a run", "device"],
        rows,
    )  # fmt: skip


def short() -> str:
    """README's table: what was measured, what is still open."""
    rows = [
        [recipe.title, f"`{recipe.command}`", accuracy_cell(recipe), recipe.reported]
        for recipe in RECIPES
    ]
    return table(["recipe", "command", "test accuracy, %", "reported by others"], rows)


def first_epochs() -> str:
    """Recipes that have a reference's log: both curves, epoch by epoch, tested on the test set."""
    rows = []
    for recipe in RECIPES:
        if not recipe.theirs:
            continue
        ours = kept(recipe.key, TESTED)
        curve = [
            f"{100 * float(np.mean(values)):.1f}"
            for epoch in range(1, len(recipe.theirs) + 1)
            if (values := [row["val/accuracy"] for run in ours for row in run["history"]
                           if row["epoch"] == epoch and "val/accuracy" in row])
        ]  # fmt: skip
        rows.append([f"{recipe.title}, theirs", "", *map(str, recipe.theirs)])
        blank = [""] * (len(recipe.theirs) - len(curve))
        rows.append([f"`{recipe.command} data.holdout=test`", str(len(ours)), *curve, *blank])
    return table(["test accuracy, %", "n", *(f"epoch {e}" for e in range(1, 6))], rows)


def per_class() -> str:
    """Test accuracy of each class, for every recipe that was run."""
    found = [(recipe, [run for run in kept(recipe.key) if run["test"]]) for recipe in RECIPES]
    done = [(recipe, runs) for recipe, runs in found if runs]
    classes = done[0][1][0]["classes"]
    rows = [
        [recipe.title, str(runs[0]["epochs"]), str(len(runs))]
        + [f"{100 * np.mean([r['test']['accuracy_per_class'][c] for r in runs]):.1f}" for c in classes]
        for recipe, runs in done
    ]  # fmt: skip
    return table(["recipe", "epochs", "n", *classes], rows)


def how_made() -> str:
    """Where and with what each kept run was made."""
    rows = []
    for recipe in RECIPES:
        for prefix, run in [(p, run) for p in ("", TESTED) for run in kept(recipe.key, p)]:
            e = run["environment"]
            log = KEPT / recipe.key / f"{prefix}seed{run['seed']}.log"
            rows.append([
                recipe.title, str(run["seed"]), " ".join(["python train.py", *run["overrides"]]),
                f"{run['status']}, {run['epochs']} of {run['max_epochs']} epochs",
                duration(run["wall_seconds"]), f"{run['train_images_per_second']:.0f}",
                f"{e['device']}, {e['cores']} cores, {e['precision']}", e["torch"],
                f"[log]({log.relative_to(ROOT / 'docs')})" if log.exists() else "",
            ])  # fmt: skip
    return table(
        ["recipe", "seed", "command", "state", "time", "images/s", "device", "torch", "log"],
        [[*row[:2], f"`{row[2]}`", *row[3:]] for row in rows],
    )


def ablation() -> str:
    """The flagship's parts, each against the whole, on held-out images."""
    base = [run["val"]["accuracy"] for run in kept("ablation/flagship")]
    rows = []
    for key, (words, change) in CHANGES.items():
        values = [run["val"]["accuracy"] for run in kept(f"ablation/{key}")]
        if not values:
            rows.append([words, f"`{change}`" if change else "", "0", "not run", ""])
            continue
        mean, _, _ = mean_and_spread(values).partition(" (n")
        apart = difference(values, base) if change else ""
        rows.append([words, f"`{change}`" if change else "", str(len(values)), mean, apart])
    return table(
        ["change", "override", "n", "validation accuracy, %: mean ± std",
         "against the recipe, points (95% interval)"],
        rows,
    )  # fmt: skip


def draw_curve(recipe: Recipe, path: Path) -> None:
    """Training accuracy by epoch of a recipe's runs."""
    curves = {
        f"training, seed {run['seed']}": [
            (row["epoch"], row["train/accuracy"]) for row in run["history"]
        ]
        for run in kept(recipe.key)
    }
    save_png(figure_array(curves_figure(curves, "accuracy")), path)


def results_page() -> str:
    """docs/results.md."""
    lessons = difference(
        *([run["test"]["accuracy"] for run in whole(recipe)] for recipe in (RECIPES[5], RECIPES[4]))
    ) if all(whole(recipe) for recipe in RECIPES[4:6]) else "not run"  # fmt: skip
    return f"""# Results

ResNet18 on CIFAR-10. Test accuracy after the last epoch: nothing is chosen on the test set, and there is
no test-time augmentation. Written by `python bench/results.py` from the runs kept in
[results/](results/), which are the runs' own metrics.json without paths. "not run" is just that.

{headline()}

Spread: standard deviation over seeds. What cutout adds in the paper: +0.73 points (95.28 to 96.01, error
4.72% to 3.99%, DeVries and Taylor, arXiv 1708.04552, table 1); here: {lessons}.

## The first epochs beside the references'

The references test every epoch and keep the best. `data.holdout=test` does the same, so that curves
compare; such numbers are chosen on the test set and stand nowhere else.

{first_epochs()}

Their figures are those of their notebooks' logs, rounded.

D starts lower than theirs does, for two things that their text does not say. Their network has PyTorch's
default weights: the sum of all |w| in their log, 109,214 after the first epoch, is that of such a
network (109,454); torchvision's He initialisation, which AugCAM uses, has twice that (224,571, both
`sum(p.abs().sum() for p in resnet(10).parameters())`). Before BatchNorm the same rate is the larger a
step, the smaller the weights are (van Laarhoven, arXiv 1706.05350), and OneCycle begins at a rate of
0.0004. And their OneCycleLR moves the momentum, from .95 at first, where they write .9. In a ResNet18 of
width 16 the first epoch ends at 30.5% as the recipe is
(`python train.py experiment=seed/d data.holdout=test model.width=16 scheduler.total_steps=27335
trainer.max_epochs=1`), at 36.1% with `scheduler.cycle_momentum=true` too, and at 46.6% when each
convolution also starts as its `reset_parameters()` leaves it (n = 1 each).

## Class by class

{per_class()}

## Curves and mistakes: `cpu_budget`

![Training accuracy by epoch](images/cpu_budget_accuracy.png)

*Training accuracy: nothing is held out, so there is no validation curve.*

![Test images that the network gets wrong most confidently](images/cpu_budget_mistakes.png)

*Three rows an image: Grad-CAM of the class that the network says, of the true class, and of the one
against the other, at layer1 to layer4; layer3 and layer4 also as the 8x8 and 4x4 cells that they are.
`python -m augcam.explain run=DIR n=8`. The flagship's curves and mistakes follow when it has been run.*

## How each run was made

Times are wall times; the CPU runs shared their cores with other work, the two epochs of `cutout_rotate`
most of the time.

{how_made()}
"""


def ablation_page() -> str:
    """docs/ablation.md."""
    return f"""# What each part of the flagship is worth

`experiment=flagship` trains ResNet18 for 35 epochs, which takes a GPU. This is the recipe on a budget
that two CPU cores can pay, one part taken away or exchanged at a time: a ResNet10 of width 16, 20 epochs
on 5,000 images. Judged on 20,000 images held out of the training set, never on the test set.

    python train.py {BUDGET} {SEEDS}

{ablation()}

A negative difference means that the part pays. Intervals are Welch's over seeds. The network is small,
the images and epochs are few: what regularises pays less here than in the real recipe, or costs, as in a
run that ends before it overfits. So cutout's row does not speak against cutout, for which DeVries
and Taylor have five runs of 200 epochs; the flagship keeps it until it has been run.
EMA of weights and Lookahead have not been tried.

`python bench/ablation.py outputs/ablation` repeats it; `python bench/results.py keep ablation
outputs/ablation` and `python bench/results.py` write this page.
"""


def pages() -> dict[Path, str]:
    """Every file that this script writes, with its text."""
    readme = ROOT / "README.md"
    begin, end = "<!-- results -->", "<!-- /results -->"
    before, rest = readme.read_text().split(begin)
    _, after = rest.split(end)
    return {
        ROOT / "docs" / "results.md": results_page(),
        ROOT / "docs" / "ablation.md": ablation_page(),
        readme: f"{before}{begin}\n{short()}\n{end}{after}",
    }


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case []:
            draw_curve(RECIPES[-1], ROOT / "docs" / "images" / "cpu_budget_accuracy.png")
            for path, text in pages().items():
                write_atomically(path, text)
                print(path.relative_to(ROOT))
        case ["check"]:
            stale = [path for path, text in pages().items() if path.read_text() != text]
            for path in stale:
                print(f"{path.relative_to(ROOT)} is not what python bench/results.py writes")
            return 1 if stale else 0
        case ["keep", "ablation", folder]:
            for key in CHANGES:
                runs = sorted((Path(folder) / key).glob("*/metrics.json"))
                keep(f"ablation/{key}", [str(path.parent) for path in runs])
        case ["keep", key, *folders] if folders:
            keep(key, folders)
        case _:
            raise UserError(str(__doc__))
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(sys.argv[1:]))
