"""docs/results.md, docs/ablation.md and README's table, from the metrics.json files of real runs.

    python bench/results.py keep seed_c outputs/RUN ...   # copy what is needed to docs/results/seed_c/
    python bench/results.py keep ablation outputs/ablation    # a study: also choice
    python bench/results.py                               # write the pages from what is kept

A page is written by hand, but for what stands between `<!-- name -->` and `<!-- /name -->`. README has
the recipes that were run to their end; docs/results.md has all, and says "not run" where none was.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ablation
import cpu_budget_choice as choice
import numpy as np
from omegaconf import OmegaConf
from recipes import BY_KEY, RECIPES, Recipe

from augcam.atomic import write_atomically
from augcam.cli.errors import reported
from augcam.config.build import trust_given
from augcam.config.compose import compose
from augcam.config.schema import plain, validate
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder, run_folders
from augcam.statistics import LEVEL
from augcam.statistics.comparisons import difference_of_counts
from augcam.viz.figures import curves_figure, figure_array
from augcam.viz.grid import save_png
from augcam.viz.words import duration, signed

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "results"
IMAGES = ROOT / "docs" / "images"
# The parts of a config that make it a recipe's.
MADE_BY = (
    "aug", "mix", "model", "optim", "scheduler", "loss", "callbacks", "data.name", "data.batch_size"
)  # fmt: skip
# What they say of how to compute it alone: the page has it in the run's command.
COMPUTED_BY = ("model.compile", "model.channels_last")
TESTED = "tested_every_epoch_"  # the references' protocol, kept apart

# What the runs of a study are made by: study -> key of a change -> words for train.py.
STUDIES = {
    "ablation": {k: f"{ablation.BUDGET} {words}" for k, (_, words) in ablation.CHANGES.items()},
    "choice": {k: f"{choice.BUDGET} {words}" for k, words in choice.CHANGES.items()},
    "all_images": {"lr0.2": "experiment=cpu_budget optim.lr=0.2"},
    # The ablation's recipe with its seeds, run once more when its last six changes were.
    "recheck": {"flagship": ablation.BUDGET},
}

Metrics = dict[str, Any]


def keep(key: str, folders: Iterable[str]) -> None:
    """Copy of each run's metrics.json what the pages need, without paths, and its log, epoch by epoch.

    Raises:
        UserError: the key is no row, or a folder has no metrics.json, or was run by another recipe.
    """
    commands = {recipe.key: recipe.overrides for recipe in RECIPES}
    commands |= {f"{name}/{key}": words for name in STUDIES for key, words in STUDIES[name].items()}
    if key not in commands:
        raise UserError(f"{key}: no such row; valid: {', '.join(sorted(commands))}")
    asked_for = trust_given(commands[key].split())
    recipe = OmegaConf.create(plain(validate(compose(asked_for))))
    for folder in map(RunFolder, folders):
        metrics = folder.metrics()
        if metrics is None:
            raise UserError(f"{folder}: no metrics.json; has the run ended or been stopped?")
        config = metrics.pop("config")
        # Validated: a key that has come since then has its default.
        run = OmegaConf.create(plain(validate(config)))
        for name in COMPUTED_BY:
            OmegaConf.update(run, name, OmegaConf.select(recipe, name))
        for part in MADE_BY:
            if OmegaConf.select(run, part) != OmegaConf.select(recipe, part):
                raise UserError(f"{folder}: its {part} is not that of {commands[key]}")
        asked = folder.overrides_file.read_text().splitlines()
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
        log = folder.log_file.read_text().splitlines(keepends=True)
        ends_of_epochs = "".join(line for line in log if " batch " not in line)
        metrics["stops"] = ends_of_epochs.count(": going on from ")
        prefix = TESTED if metrics["holdout"] == "test" else ""
        target = KEPT / key / f"{prefix}{stem(metrics)}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(metrics, separators=(",", ":")) + "\n")
        # Where a run was, and what it went on from: not this machine's folders.
        paths = r"(?<=going on from ).*/(?=checkpoints/)|(?<=: run      )/.*/(?=outputs/)"
        without_paths = re.sub(paths, "", ends_of_epochs)
        write_atomically(target.with_suffix(".log"), without_paths)
        print(f"{target.relative_to(KEPT)}: {metrics['status']} after {metrics['epochs']} epochs")


def stem(run: Metrics) -> str:
    """What a kept run is called: one for each length and seed."""
    return f"{run['max_epochs']}epochs_seed{run['seed']}"


_HISTORY = ("epoch", "train/accuracy", "val/accuracy", "wall_seconds")


def kept(key: str, prefix: str = "") -> list[Metrics]:
    """The runs of a row, by seed; with `TESTED` those that were validated on the test set."""
    paths = sorted((KEPT / key).glob(f"{prefix}[0-9]*epochs_seed*.json"))
    return [json.loads(path.read_text()) for path in paths]


def mean_and_spread(accuracies: Sequence[float]) -> str:
    """`93.40 ± 0.12 (n = 3)` of accuracies in 0..1: mean and standard deviation, in percent."""
    percent = 100 * np.asarray(accuracies)
    spread = f" ± {percent.std(ddof=1):.2f}" if len(percent) > 1 else ""
    return f"{percent.mean():.2f}{spread} (n = {len(percent)})"


def difference(
    group: Sequence[Metrics], base: Sequence[Metrics], split: str, compared: int = 1
) -> str:
    """A difference of mean accuracies on `split`, in points: `+0.7 (+0.2 to +1.2)`.

    The 95% interval is that of the reports, `augcam.statistics.comparisons`.

    Args:
        compared: so many intervals are to hold together, by Bonferroni's correction.
    """
    apart = difference_of_counts(hits_and_images(group, split), hits_and_images(base, split))
    middle, half = 100 * apart.mean.item(), 100 * apart.half_width(LEVEL / compared).item()
    if np.isnan(half):
        return signed(middle, 2)
    return f"{signed(middle, 2)} ({signed(middle - half, 2)} to {signed(middle + half, 2)})"


def hits_and_images(runs: Sequence[Metrics], split: str) -> tuple[np.ndarray, np.ndarray]:
    """How many images of `split` each run gets right, and of how many: int (runs, 1) each."""
    confusions = np.array([run[split]["confusion"] for run in runs])
    return (
        confusions.trace(axis1=1, axis2=2)[:, None],
        confusions.sum(axis=(1, 2))[:, None],
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def longest(recipe: Recipe) -> list[Metrics]:
    """The recipe's finished runs of the most epochs: all that it asks for, or what could be paid."""
    runs = [run for run in kept(recipe.key) if run["status"] == "finished"]
    most = max((run["max_epochs"] for run in runs), default=0)
    return [run for run in runs if run["max_epochs"] == most]


def shortened(recipe: Recipe, runs: Sequence[Metrics]) -> str:
    """` after 2 epochs`, where that is less than the recipe asks for."""
    epochs = runs[0]["max_epochs"]
    return f" after {epochs} epochs" if epochs != recipe.epochs else ""


def accuracy_cell(recipe: Recipe) -> str:
    """The test accuracy after the last epoch, or how far the recipe's runs got."""
    runs = longest(recipe)
    if not runs:
        return "not run"
    fewer = shortened(recipe, runs)
    reached = mean_and_spread([run["test"]["accuracy"] for run in runs])
    return f"{reached}{fewer}; whole: not run" if fewer else reached


def headline() -> str:
    """The recipes, what they reached and what others report."""
    rows = []
    for recipe in RECIPES:
        time = device = ""
        if runs := longest(recipe):
            seconds = float(np.mean([run["wall_seconds"] for run in runs]))
            time = duration(seconds) + shortened(recipe, runs).replace(" after", ",")
            device = where(runs[0])
        rows.append([
            recipe.full_title, f"`{recipe.command}`", str(recipe.epochs), accuracy_cell(recipe),
            recipe.reported, time, device,
        ])  # fmt: skip
    return table(
        ["recipe", "command", "epochs", "test accuracy, %", "reported by others", "time of a run",
         "device"],
        rows,
    )  # fmt: skip


def whole(recipe: Recipe) -> list[Metrics]:
    """The runs that did all the epochs that the recipe asks for."""
    return [run for run in longest(recipe) if run["max_epochs"] == recipe.epochs]


def short() -> str:
    """README's table: the recipes that were run to their end."""
    rows = []
    for recipe, runs in ((recipe, whole(recipe)) for recipe in RECIPES):
        if not runs:
            continue
        seconds = float(np.mean([run["wall_seconds"] for run in runs]))
        paths = [f"[{r['seed']}](docs/results/{recipe.key}/{stem(r)}.log)" for r in runs]
        rows.append([
            recipe.full_title, f"`{recipe.command}`",
            mean_and_spread([run["test"]["accuracy"] for run in runs]), recipe.reported,
            duration(seconds), where(runs[0]), " ".join(paths),
        ])  # fmt: skip
    return table(
        ["recipe", "command", "test accuracy, %", "reported by others", "time of a run", "device",
         "log of each seed"],
        rows,
    )  # fmt: skip


def where(run: Metrics) -> str:
    """`cpu, 1 of 2 cores, 32-true`: what a run was made on; before a stop it may have been another."""
    e = run["environment"]
    used = e.get("torch_threads", e["cores"])
    cores = f"{used} of {e['cores']}" if e["device"] == "cpu" and used < e["cores"] else e["cores"]
    last = " after the last stop" if run.get("stops") else ""
    return f"{e['device']}, {cores} cores{last}, {e['precision']}"


def stopped(recipe: Recipe) -> list[Metrics]:
    """The runs that were stopped before their end, where none has reached it."""
    runs = [run for run in kept(recipe.key) if run["status"] == "interrupted"]
    return [] if whole(recipe) else runs


def curves() -> str:
    """The curves of the recipes that were run to their end."""
    shown = [picture(recipe, runs) for recipe in RECIPES if (runs := whole(recipe))]
    return "\n\n".join(shown) or "None."


def unfinished() -> str:
    """The curves of half-finished runs, beside the reference's: no results."""
    shown = [picture(recipe, runs) for recipe in RECIPES if (runs := stopped(recipe))]
    return "\n\n".join(shown) or "None."


def picture(recipe: Recipe, runs: Sequence[Metrics]) -> str:
    """A recipe's curves, and how far each run is."""
    states = (f"seed {run['seed']}: {run['epochs']} of {run['max_epochs']} epochs" for run in runs)
    return (
        f"![Accuracy by epoch](images/{recipe.key}_accuracy.png)\n\n"
        f"*{recipe.title}. {', '.join(states)}.*"
    )


def first_epochs() -> str:
    """Curves on the test set, epoch by epoch: the references' logs, and the runs that were tested so."""
    count = max(len(recipe.theirs) for recipe in RECIPES)
    rows = []
    for recipe in RECIPES:
        runs = kept(recipe.key, TESTED)
        if recipe.theirs:
            rows.append([f"{recipe.title}, theirs", "", *map(str, recipe.theirs), recipe.best])
        if runs:
            command = made_by(recipe, runs[0])
            curve = [tested(runs, epoch) for epoch in range(1, count + 1)]
            rows.append([f"`{command}`", str(len(runs)), *curve, best_of_all(runs)])
    head = ["test accuracy, %", "n", *(f"epoch {e}" for e in range(1, count + 1))]
    return table([*head, "best of all (its epoch)"], rows)


def tested(runs: Iterable[Metrics], epoch: int) -> str:
    """The mean accuracy after an epoch, of the runs that were validated then."""
    values = [
        row["val/accuracy"]
        for run in runs
        for row in run["history"]
        if row["epoch"] == epoch and "val/accuracy" in row
    ]
    return f"{100 * np.mean(values):.1f}" if values else ""


def best_of_all(runs: Iterable[Metrics]) -> str:
    """The best epoch's accuracy in each run that did all of its epochs."""
    bests = [
        max((row["val/accuracy"], row["epoch"]) for row in run["history"] if "val/accuracy" in row)
        for run in runs
        if run["status"] == "finished"
    ]
    return ", ".join(f"{100 * accuracy:.1f} ({epoch})" for accuracy, epoch in bests)


def per_class() -> str:
    """Test accuracy of each class, for every recipe that was run."""
    done = [(recipe, runs) for recipe in RECIPES if (runs := longest(recipe))]
    classes = done[0][1][0]["classes"]
    rows = [
        [recipe.title, str(runs[0]["max_epochs"]), str(len(runs))]
        + [f"{100 * np.mean([r['test']['accuracy_per_class'][c] for r in runs]):.1f}" for c in classes]
        for recipe, runs in done
    ]  # fmt: skip
    rows.insert(0, [f"{BY_KEY['seed_c'].title}, theirs", "15", "1", *C_BY_CLASS])
    return table(["recipe", "epochs", "n", *classes], rows)


# jai-mr/Assignment-9 is the only reference that gives them.
C_BY_CLASS = ("91", "93", "88", "68", "89", "70", "92", "95", "91", "91")


def made_by(recipe: Recipe, run: Metrics) -> str:
    """The command that repeats a run, also where the recipe has had other epochs since."""
    words = ["python train.py", *run["overrides"]]
    given = any(word.startswith("trainer.max_epochs=") for word in words)
    if run["max_epochs"] != recipe.epochs and not given:
        words.append(f"trainer.max_epochs={run['max_epochs']}")
    if not any(word.startswith("trainer.precision=") for word in words):
        # What `auto` was on that machine.
        words.append(f"trainer.precision={run['environment']['precision']}")
    return " ".join(words)


def how_made() -> str:
    """Where and with what each kept run was made."""
    rows = []
    for recipe in RECIPES:
        for prefix, run in [(p, run) for p in ("", TESTED) for run in kept(recipe.key, p)]:
            e = run["environment"]
            log = KEPT / recipe.key / f"{prefix}{stem(run)}.log"
            rows.append([
                recipe.title, str(run["seed"]), made_by(recipe, run),
                f"{run['status']}, {run['epochs']} of {run['max_epochs']} epochs",
                duration(run["wall_seconds"]), f"{run['train_images_per_second']:.0f}",
                where(run), ", ".join(
                    f"{name} {e[key]}"
                    for name, key in (
                        ("torch", "torch"), ("lightning", "pytorch_lightning"),
                        ("albumentations", "albumentations"),
                    )
                ),
                f"[log]({log.relative_to(ROOT / 'docs')})" if log.exists() else "",
            ])  # fmt: skip
    return table(
        ["recipe", "seed", "command", "state", "time", "images/s", "device", "versions", "log"],
        [[*row[:2], f"`{row[2]}`", *row[3:]] for row in rows],
    )


def finished(study: str) -> dict[str, list[Metrics]]:
    """The finished runs of a study's changes."""
    return {
        key: [run for run in kept(f"{study}/{key}") if run["status"] == "finished"]
        for key in STUDIES[study]
    }


def held_out(runs: Iterable[Metrics]) -> list[float]:
    """Each run's accuracy on held-out training images."""
    return [run["val"]["accuracy"] for run in runs]


def study_made(study: str) -> str:
    """How many runs a study has, and where and with what they were made, kind by kind."""
    kinds: dict[str, list[float]] = {}
    for run in (run for runs in finished(study).values() for run in runs):
        kind = f"{where(run)}, torch {run['environment']['torch']}"
        kinds.setdefault(kind, []).append(run["wall_seconds"])
    return "; ".join(
        f"{len(seconds)} runs: {kind}, {duration(float(np.median(seconds)))} each (median)"
        for kind, seconds in kinds.items()
    )


def logs(key: str, runs: Iterable[Metrics]) -> str:
    """Links from a page in docs/ to the logs of runs, by seed."""
    return " ".join(f"[{run['seed']}](results/{key}/{stem(run)}.log)" for run in runs)


def choice_table() -> str:
    """cpu_budget's batch sizes and rates, each against the recipe's, on held-out training images."""
    runs = finished("choice")
    if not any(runs.values()):
        return "Not run yet."
    others = len(choice.CHANGES) - 1
    rows = []
    for size in choice.BATCH_SIZES:
        for rate in choice.RATES:
            key = f"batch{size}_lr{rate:g}"
            if not runs[key]:
                rows.append([str(size), f"{rate:g}", "not run", "", ""])
                continue
            apart = "the recipe's"
            if key != choice.RECIPE:
                apart = difference(runs[key], runs[choice.RECIPE], "val", others)
            rows.append([
                str(size), f"{rate:g}", mean_and_spread(held_out(runs[key])), apart,
                logs(f"choice/{key}", runs[key]),
            ])  # fmt: skip
    return table(
        ["batch size", "peak rate", "validation accuracy, %",
         "against the recipe's, points (simultaneous 95% interval)", "log of each seed"],
        rows,
    )  # fmt: skip


def choice_on_all() -> str:
    """cpu_budget's rate of 0.2 against the recipe's on all images, in words."""
    other, recipe = finished("all_images")["lr0.2"], longest(BY_KEY["cpu_budget"])
    means = [mean_and_spread([run["test"]["accuracy"] for run in runs]) for runs in (other, recipe)]
    return (
        f"{means[0]}, the recipe {means[1]}: {difference(other, recipe, 'test')} "
        f"points (95% interval over seeds, on these images). Logs: {logs('all_images/lr0.2', other)}."
    )


def ablation_table() -> str:
    """The flagship's parts, each against the whole, on held-out images."""
    runs = finished("ablation")
    compared = (
        len(ablation.CHANGES) - 1
    )  # also those that are still to come: no interval changes then
    rows = []
    for key, (words, change) in ablation.CHANGES.items():
        override = f"`{change}`" if change else ""
        if not runs[key]:
            rows.append([words, override, "0", "not run", "", ""])
            continue
        mean, _, _ = mean_and_spread(held_out(runs[key])).partition(" (n")
        apart = difference(runs[key], runs["flagship"], "val", compared) if change else ""
        rows.append([
            words, override, str(len(runs[key])), mean, apart, logs(f"ablation/{key}", runs[key])
        ])  # fmt: skip
    return table(
        ["change", "override", "n", "validation accuracy, %: mean ± std",
         "against the recipe, points (simultaneous 95% interval)", "log of each seed"],
        rows,
    )  # fmt: skip


def recheck() -> str:
    """The recipe run again, and its logs."""
    runs = finished("recheck")["flagship"]
    return (
        f"{mean_and_spread(held_out(runs))}: {logs('recheck/flagship', runs)}"
        if runs
        else "not run"
    )


def paper_difference() -> str:
    """What cutout adds to crop and flip, over the longest runs that both have."""
    plain, cutout = (longest(BY_KEY[key]) for key in ("paper_crop_flip", "paper_crop_flip_cutout"))
    if not plain or not cutout or plain[0]["max_epochs"] != cutout[0]["max_epochs"]:
        return "not run"
    return f"{difference(cutout, plain, 'test')} after {plain[0]['max_epochs']} epochs"


def draw_curves(recipe: Recipe, path: Path) -> None:
    """Accuracy by epoch of a recipe's runs, and of the reference's test where its log has it."""
    curves = {"the reference, test": [(e, a / 100) for e, a in enumerate(recipe.theirs, 1)]}
    for run in whole(recipe) or stopped(recipe):
        for split, words in (("train", "training"), ("val", "validation")):
            curves[f"{words}, seed {run['seed']}"] = [
                (row["epoch"], row[f"{split}/accuracy"])
                for row in run["history"]
                if f"{split}/accuracy" in row
            ]
    save_png(figure_array(curves_figure(curves, "accuracy")), path)


BLOCKS: dict[str, Callable[[], str]] = {
    "results": short,
    "headline": headline,
    "curves": curves,
    "unfinished": unfinished,
    "paper_difference": paper_difference,
    "first_epochs": first_epochs,
    "per_class": per_class,
    "how_made": how_made,
    "ablation": ablation_table,
    "ablation_made": lambda: study_made("ablation"),
    "ablation_command": lambda: f"    python train.py -m {ablation.BUDGET} {ablation.SEEDS}",
    "recheck": recheck,
    "choice": choice_table,
    "choice_made": lambda: study_made("choice"),
    "choice_on_all": choice_on_all,
    "choice_command": lambda: f"    python train.py -m {choice.BUDGET} {choice.SEEDS}",
}
PAGES = (ROOT / "docs" / "results.md", ROOT / "docs" / "ablation.md", ROOT / "README.md")


def filled(page: str) -> str:
    """A page with what is measured between its marks, `<!-- name -->` and `<!-- /name -->`.

    What stands on lines of its own stays so.

    Raises:
        UserError: a mark has no such name, or is not closed.
    """

    def fill(block: re.Match[str]) -> str:
        name, line = block["name"], block["line"]
        if name not in BLOCKS:
            raise UserError(f"<!-- {name} -->: no such block; valid: {', '.join(BLOCKS)}")
        return f"<!-- {name} -->{line}{BLOCKS[name]()}{line}<!-- /{name} -->"

    done, count = re.subn(
        r"<!-- (?P<name>\w+) -->(?P<line>\n?).*?<!-- /(?P=name) -->", fill, page, flags=re.DOTALL
    )
    if count != len(re.findall("<!-- ", done)) / 2:
        raise UserError("a <!-- name --> without its <!-- /name -->, or the other way round")
    return done


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case []:
            for recipe in RECIPES:
                if whole(recipe) or stopped(recipe):
                    draw_curves(recipe, IMAGES / f"{recipe.key}_accuracy.png")
            for path in PAGES:
                write_atomically(path, filled(path.read_text()))
                print(path.relative_to(ROOT))
        case ["check"]:
            stale = [path for path in PAGES if filled(path.read_text()) != path.read_text()]
            for path in stale:
                print(f"{path.relative_to(ROOT)} is not what python bench/results.py writes")
            return 1 if stale else 0
        case ["keep", study, folder] if study in STUDIES:
            for key in STUDIES[study]:
                below = run_folders(Path(folder) / key)
                runs = [str(run.path) for run in below if run.metrics_file.is_file()]
                keep(f"{study}/{key}", runs)
        case ["keep", key, *folders] if folders:
            keep(key, folders)
        case _:
            raise UserError(str(__doc__))
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(sys.argv[1:]))
