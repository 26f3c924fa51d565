"""The page's sections: findings -> words, tables and pictures."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from augcam.errors import UserError
from augcam.folder import RunFolder
from augcam.page import Block, Bullets, Commands, Picture, Section, Table
from augcam.report import figures, looks, statistics, words
from augcam.report.commands import EVALUATE, sweep_commands
from augcam.report.findings import Findings
from augcam.report.statistics import MEASURES, ConfusionChange, Difference, Spread
from augcam.report.study import Maps, Run
from augcam.report.summary import class_sentence

MOST_IMAGES = 8
MOST_COLUMNS = 12  # of pictures side by side
MOST_CLASSES = 24  # columns of a heat map
FOLDED = 6  # tables with more rows than this are folded where few will read them


def ranking(findings: Findings) -> Section:
    """The table of groups, best first, with a picture of the differences."""
    base = findings.study.baseline
    digits = 2 if findings.test_images >= 5000 else 1
    columns = ["augmentation", "test accuracy, %"]
    columns += ["difference, points", "95% interval", "verdict", "p"] if base else []
    columns += ["seeds", "validation, %", "ECE", "s per epoch"]
    rows = []
    for s in findings.standings:
        row = [s.label, words.estimate(s.test, digits, 100)]
        row += _difference_cells(s.difference, digits) if base else []
        row += [str(len(s.runs)), words.estimate(s.val, digits, 100) if s.val else "-"]
        row += [words.estimate(s.ece, 3) if s.ece else "-"]
        row += [f"{s.epoch_seconds:.1f}" if s.epoch_seconds else "-"]
        rows.append(row)
    if any(len(s.runs) > 1 for s in findings.standings):
        caption = "± is half of the 95% interval of the mean over seeds (Student's t). "
    else:
        caption = "One seed each: there is no interval over seeds. "
    if base:
        caption += (
            f"The difference from `{base}` and its own 95% interval are on the same test images, and "
            "count both the seeds and the sampling of images. A tie: the interval holds 0, which "
            "does not say that the two are equal. Each verdict is that of one comparison at 5%. "
        )
    caption += (
        "ECE: expected calibration error, 0 is best. The time is that of the fastest epoch, "
        "validation and pictures included: what else a machine does can only add to it."
    )
    blocks: list[Block] = [Table(columns, rows, caption), _ranking_picture(findings)]
    tests = [
        [s.label, str(test.seed), f"{test.b:,}", f"{test.c:,}", words.p_value(test.p)]
        for s in findings.others
        if s.difference
        for test in s.difference.mcnemar
    ]
    if tests:
        said = (
            "McNemar's exact test for each pair of networks of one seed. It tells whether these two "
            "networks differ, not whether the augmentations do: another seed is another network, and "
            "two networks of one augmentation often differ too."
        )
        heads = ["augmentation", "seed", f"only {base} right", "only it right", "p"]
        blocks.append(Table(heads, tests, said, folded=True))
    return Section("Ranking", "", blocks=blocks)


def _difference_cells(difference: Difference | None, digits: int) -> list[str]:
    if difference is None:
        return ["", "", "baseline", ""]
    mean = words.points(difference.mean, digits)
    if difference.low is None or difference.high is None or difference.p is None:
        return [mean, "-", "one seed", "-"]
    interval = words.interval(100 * difference.low, 100 * difference.high, digits)
    return [mean, interval, difference.verdict or "", words.p_value(difference.p)]


def _ranking_picture(findings: Findings) -> Picture:
    base = findings.study.baseline
    zero = findings.standing(base).test.mean if base else 0.0
    dots = []
    for s in findings.standings:
        values = [100 * (run.metrics["test"]["accuracy"] - zero) for run in s.runs]
        shown = s.difference if base else s.test
        bar = None
        if shown and shown.low is not None and shown.high is not None:
            bar = 100 * shown.low, 100 * shown.high
        colour = findings.styles[s.label]["color"]
        dots.append(figures.Dot(s.label, 100 * (s.test.mean - zero), bar, values, colour))
    if base:
        drawn = figures.dots_figure(dots, f"test accuracy, points against {base}", 0.0)
        bar_is = f"the 95% interval of the difference from `{base}`"
    else:
        drawn = figures.dots_figure(dots, "test accuracy, %")
        bar_is = "its 95% interval over seeds"
    caption = f"A ring is a run, a full dot the mean of the runs, a bar {bar_is}."
    return _picture(findings, "ranking", drawn, caption)


def by_class(findings: Findings) -> Section:
    """Every class under every augmentation against the baseline."""
    heading, found = "Class by class", findings.per_class
    if found is None:
        return Section(heading, _nothing_to_compare(findings))
    order = [found.groups.index(s.label) for s in findings.others]
    largest = np.nanmax(np.abs(found.mean), axis=0, initial=0)
    shown = np.sort(np.argsort(-largest, kind="stable")[:MOST_CLASSES])
    overall = [s.difference for s in findings.others if s.difference]
    drawn = figures.difference_heatmap(
        np.column_stack([[d.mean for d in overall], found.mean[order][:, shown]]),
        np.column_stack(
            [[d.verdict in ("better", "worse") for d in overall], found.clear[order][:, shown]]
        ),
        [s.label for s in findings.others],
        ["all", *(found.classes[i] for i in shown)],
    )
    caption = (
        f"Test accuracy against `{findings.study.baseline}`, in points. Grey: within noise. A cell is "
        "coloured where it differs from 0 after Benjamini and Hochberg's correction over all cells: of "
        "the coloured ones, at most 5% are expected to be chance. The first column is the ranking's."
    )
    if len(shown) < len(found.classes):
        caption += (
            f" The {len(shown)} of {len(found.classes)} classes with the largest differences."
        )
    text = (
        "One seed each: this counts the sampling of test images alone, and speaks of these networks, "
        "not of the augmentations."
        if found.images_only
        else ""
    )
    sentences = Bullets([class_sentence(found, i) for i in order])
    return Section(heading, text, blocks=[sentences, _picture(findings, "classes", drawn, caption)])


def curves(findings: Findings) -> Section:
    """Accuracy over epochs, and how far training is ahead of validation."""
    several = any(len(s.runs) > 1 for s in findings.standings)
    over = "mean over seeds, shaded from the lowest to the highest" if several else "one run each"

    def drawn(name: str, y_label: str, value: Callable[[dict], float | None], caption: str,
              reference: float | None = None) -> list[Block]:  # fmt: skip
        groups = {}
        for s in findings.standings:
            histories = [run.metrics.get("history") or [] for run in s.runs]
            points = [[(row["epoch"], value(row)) for row in history] for history in histories]
            known = [[(x, y) for x, y in curve if y is not None] for curve in points]
            if any(known):
                groups[s.label] = [curve for curve in known if curve]
        if not groups:
            return []
        figure = figures.lines_figure(groups, findings.styles, "epoch", y_label, reference)
        return [_picture(findings, name, figure, f"{caption}: {over}.")]

    def gap(row: dict[str, float]) -> float | None:
        train, val = row.get("train/accuracy"), row.get("val/accuracy")
        return None if train is None or val is None else train - val

    blocks = drawn(
        "validation", "validation accuracy, %", lambda row: row.get("val/accuracy"),
        "Validation accuracy after each epoch",
    ) or drawn(
        "training", "training accuracy, %", lambda row: row.get("train/accuracy"),
        "Training accuracy; nothing was held out for validation (`data.holdout=0`)",
    )  # fmt: skip
    blocks += drawn(
        "gap", "training − validation accuracy, points", gap, "Generalisation gap after each epoch", 0.0
    )  # fmt: skip
    if not blocks:
        return Section("Learning curves", "The runs kept no history.")
    rows = []
    for s in findings.standings:
        gaps = [g for g in map(statistics.generalisation_gap, s.runs) if g is not None]
        if gaps:
            mean = words.estimate(statistics.mean_interval(gaps), 1, 100, "+")
            rows.append([s.label, str(len(gaps)), mean])
    if rows:
        caption = (
            "Training minus validation accuracy, mean ± half of its 95% interval over seeds. Training "
            "accuracy is that of the augmented images as the epoch meets them: a strong augmentation "
            "makes it lower, so the gap says how hard training was made, not overfitting alone."
        )
        columns = ["augmentation", "seeds", "gap after the last epoch, points"]
        blocks.append(Table(columns, rows, caption))
    return Section("Learning curves", "", blocks=blocks)


def confusions(findings: Findings) -> Section:
    """Which classes are taken for each other more or less often than under the baseline."""
    heading, study = "Confused classes", findings.study
    if findings.per_class is None:
        return Section(heading, _nothing_to_compare(findings))
    top = 3 if len(study.groups) > 4 else 5
    rows, sentences = [], []
    for s in findings.others:
        found = statistics.confusion_changes(study, s.label, top)
        rows += [[s.label, *_confusion_cells(change)] for change in found]
        said = [
            f"{c.true} is taken for {c.predicted} {'more' if c.change > 0 else 'less'} often "
            f"({words.signed(c.change, 0)} of 1,000)"
            for c in found
            if c.clear
        ]
        if said:
            sentences.append(f"{s.label}: {words.listed(said)}.")
    if not rows:
        return Section(heading, "No pair of classes is confused more or less often.")
    caption = (
        f"The {top} largest changes of each against `{study.baseline}`. True class → predicted class, "
        "how often in 1,000 images of the true class, mean over seeds. The 95% interval is of the pair "
        "by itself. The largest of many changes are large by chance too: the last column reckons with "
        "it (Benjamini and Hochberg over all pairs)."
    )
    base = str(study.baseline)
    columns = ["augmentation", "confusion", base, "now", "change", "95% interval", "verdict"]
    if sentences:
        return Section(heading, "", blocks=[Bullets(sentences), Table(columns, rows, caption)])
    text = "No change of a pair of classes stands out from noise."
    return Section(heading, text, blocks=[Table(columns, rows, caption, folded=True)])


def _confusion_cells(change: ConfusionChange) -> list[str]:
    numbers = [f"{change.baseline:.0f}", f"{change.group:.0f}", words.signed(change.change, 0)]
    if change.low is None or change.high is None:
        interval, verdict = "-", "one seed"
    else:
        interval = words.interval(change.low, change.high, 0)
        verdict = "clear" if change.clear else "within noise"
    return [f"{change.true} → {change.predicted}", *numbers, interval, verdict]


def where_they_look(findings: Findings) -> Section:
    """The same images through every network, and what the maps say in numbers."""
    heading = "Where each network looks"
    runs = {s.label: [run for run in s.runs if run.maps] for s in findings.standings}
    runs = {label: several for label, several in runs.items() if several}
    if not runs:
        return Section(heading, _not_evaluated(findings))
    some = next(iter(runs.values()))[0].evaluation
    assert some is not None
    text = (
        f"Maps of {some['method']} at {some['layer']}, over the same {some['images']:,} of "
        f"{findings.test_images:,} test images for every run.{_partly(findings)}"
    )
    blocks: list[Block] = [_looks(findings, runs)] if len(runs) > 1 else []
    blocks += _map_statistics(runs)
    blocks += _map_shifts(findings)
    return Section(heading, text, blocks=blocks)


def _looks(findings: Findings, runs: Mapping[str, list[Run]]) -> Block:
    base = findings.study.baseline
    order = sorted(runs, key=lambda label: label != base)  # the baseline, then as in the ranking
    shown = {label: runs[label][0] for label in order[:MOST_COLUMNS]}
    apart = looks.disagreement([_maps(several) for several in runs.values()])
    chosen = np.argsort(-apart, kind="stable")[:MOST_IMAGES]
    try:
        images = looks.test_images(next(iter(shown.values())))
    except UserError as error:
        return f"The test images cannot be shown: {str(error).splitlines()[0]}"
    rows = looks.side_by_side(images, shown, chosen, findings.study.classes)
    scale = "evidence for the true class; 1 is the median peak of that network's maps, or more"
    few = f" The first {len(shown)} of {len(runs)} augmentations." if len(shown) < len(runs) else ""
    caption = (
        f"The {len(chosen)} test images on which the augmentations disagree most (Jensen-Shannon "
        "divergence of their mean predictions); of each augmentation the network of the lowest seed."
        f"{few} The colours are the Grad-CAM of the **true** class, the same question to every network. "
        "Below: what the network said, green if right, and how surely. Raw maps of different networks "
        "have different units, so each is divided by its own network's median peak, one number for all "
        "its maps. Place and shape compare along a row; blue or red is weak or strong evidence as that "
        "network's maps go. Grey: no cell speaks for the true class."
    )
    figure = figures.looks_figure(rows, ["image", *shown], scale)
    return _picture(findings, "looks", figure, caption, few_colours=False)


def _maps(runs: Iterable[Run]) -> list[Maps]:
    return [run.maps for run in runs if run.maps]


def _map_statistics(runs: Mapping[str, list[Run]]) -> list[Block]:
    """How faithful and how concentrated each augmentation's maps are."""

    def cell(several: Sequence[Run], name: str) -> str:
        found = [run.evaluation["maps"].get(name) for run in several if run.evaluation]
        known = [s for s in found if s and s.get("mean") is not None]
        if len(known) == 1 and known[0].get("low") is not None:
            (one,) = known
            return f"{one['mean']:.3f} ± {(one['high'] - one['low']) / 2:.3f} (images)"
        if not known:
            return "-"
        return words.estimate(statistics.mean_interval([s["mean"] for s in known]), 3)

    names = ["insertion", "deletion", "concentration"]
    rows = [
        [label, str(len(several)), *(cell(several, name) for name in names)]
        for label, several in runs.items()
    ]
    caption = (
        "Mean ± half of its 95% interval over seeds; of a single run over its images, as marked. "
        "Insertion: how certain of the class the network is while the pixels that matter most are put "
        "in, higher is better; deletion: while they are taken out, lower is better (RISE, arXiv "
        "1806.07421). Both also depend on how certain a network is at all. Concentration: the Gini "
        "index of the evidence, 0 spread evenly, 1 on a single cell."
    )
    said = "**The maps in numbers**: do they find what the network uses, and how wide are they?"
    columns = ["augmentation", "seeds", "insertion ↑", "deletion ↓", "concentration"]
    return [said, Table(columns, rows, caption)]


def _map_shifts(findings: Findings) -> list[Block]:
    """How far each augmentation's maps are from the baseline's, beside another seed's."""
    study, floor = findings.study, statistics.noise_floor(findings.study)
    shifts = {s.label: statistics.map_shift(study, s.label) for s in findings.others}
    shifts = {label: shift for label, shift in shifts.items() if shift}
    if not shifts:
        return []

    def beyond(key: str, shift: Spread) -> bool:
        _title, more_is_further = MEASURES[key]
        return shift.mean > floor[key].high if more_is_further else shift.mean < floor[key].low

    rows, sentences = [], []
    pairs = floor["kl"].pairs // 2 if floor else 0  # each was taken both ways
    if floor:
        rows.append(["noise floor", *(f"{floor[key].mean:.3f}" for key in MEASURES)])
        ends = [f"{floor[key].low:.3f}–{floor[key].high:.3f}" for key in MEASURES]
        rows += [["its pairs", *ends]] if pairs > 1 else []
    for label, shift in shifts.items():
        far = [key for key in MEASURES if floor and beyond(key, shift[key])]
        cells = [f"{shift[key].mean:.3f}" for key in MEASURES]
        marked = [f"**{c}**" if key in far else c for key, c in zip(MEASURES, cells, strict=True)]
        rows.append([label, *marked])
        sentences.append(
            f"{label}: further than another seed moves them, by {len(far)} of {len(MEASURES)} measures."
            if far
            else f"{label}: no further than another seed moves them."
        )
    caption = (
        "The six measures of Dorneles, Garcia and Carbonera (arXiv 2505.12581), mean over pairs of runs "
        "with unequal seeds. The first five compare heat maps, each stretched to its own peak; higher "
        "correlation and overlap are nearer, the others further. "
    )
    said = f"**How far the maps moved** from those of `{study.baseline}`"
    columns = ["augmentation", *(title for title, _ in MEASURES.values())]
    if not floor:
        caption += f"There is no noise floor: it takes two evaluated runs of `{study.baseline}`."
        return [f"{said}:", Table(columns, rows, caption)]
    caption += (
        f"The noise floor is the same between runs of `{study.baseline}` that differ in the seed alone "
        f"({words.plural(pairs, 'pair')}). **Bold**: beyond all of these."
    )
    return [f"{said}:", Bullets(sentences), Table(columns, rows, caption)]


def robustness(findings: Findings) -> Section:
    """Accuracy under corruption."""
    heading, base = "Robustness", findings.study.baseline
    found = {s.label: [r.evaluation for r in s.runs if r.evaluation] for s in findings.standings}
    found = {label: several for label, several in found.items() if several}
    every = [evaluation for several in found.values() for evaluation in several]
    if not every:
        return Section(heading, _not_evaluated(findings))
    names = [n for n in every[0]["corruptions"] if all(n in e["corruptions"] for e in every)]
    if not names:
        return Section(heading, "The evaluations have no corruption in common.")
    # (runs, corruptions, severities) of each group
    tables = {
        label: np.array([[e["corruptions"][name] for name in names] for e in several])
        for label, several in found.items()
    }
    clean = {label: [e["accuracy"] for e in several] for label, several in found.items()}
    heat = figures.accuracy_heatmap(
        np.array([[np.mean(clean[label]), *t.mean(axis=(0, 2))] for label, t in tables.items()]),
        list(tables),
        ["clean", *(name.replace("_", " ") for name in names)],
    )
    strengths = {
        label: [list(enumerate([c, *run])) for c, run in zip(clean[label], t.mean(1), strict=True)]
        for label, t in tables.items()
    }
    lines = figures.lines_figure(strengths, findings.styles, "severity (0: clean)", "accuracy, %")
    errors = findings.corruption_errors
    rows = [
        [
            label,
            str(len(t)),
            f"{100 * np.mean(clean[label]):.1f}",
            f"{100 * t.mean():.1f}",
            words.estimate(errors[label], 1) if label in errors else "-",
        ]
        for label, t in tables.items()
    ]
    caption = "Without an evaluated baseline there is no relative error (mCE)."
    if errors:
        caption = (
            "Mean corruption error (mCE): the errors under each corruption as a share of those of "
            f"`{base}`, averaged over corruptions, in per cent (Hendrycks and Dietterich, arXiv "
            "1903.12261); below 100 is more robust. ± is half of the 95% interval over the row's own "
            "seeds."
        )
    text = (
        f"{every[0]['images']:,} of {findings.test_images:,} test images, a stratified choice (seed "
        f"{every[0]['seed']}), the same for every run; {len(names)} corruptions at "
        f"{tables[next(iter(tables))].shape[2]} severities.{_partly(findings)}"
    )
    columns = ["augmentation", "seeds", "clean, %", "corrupted, %", "mCE, %"]
    several = any(len(t) > 1 for t in tables.values())
    shaded = ", mean over seeds, shaded from the lowest to the highest run" if several else ""
    blocks: list[Block] = [
        Table(columns, rows, caption),
        _picture(findings, "corruptions", heat, "Accuracy in %, mean over severities and seeds."),
        _picture(findings, "severities", lines, f"Mean over the {len(names)} corruptions{shaded}."),
    ]
    return Section(heading, text, blocks=blocks)


def how_it_was_made(findings: Findings) -> Section:
    """Commands, configs, versions, machine, time, and what is missing."""
    study = findings.study
    used = [run for runs in study.groups.values() for run in runs]
    evaluated = [run.evaluation for run in used if run.evaluation]
    commands = sweep_commands(study.groups)
    if evaluated:
        commands.append(f"{EVALUATE}DIR   # {words.plural(len(evaluated), 'run')}")
    blocks: list[Block] = [Commands(commands)] if commands else []
    settings = [
        [label, str(values.get("transforms", "")), _settings(values)]
        for label, values in study.differing.items()
    ]
    if any(study.differing.values()):
        caption = "The settings in which the augmentations differ; all others are the same."
        columns = ["augmentation", "transforms", "settings of its own"]
        blocks.append(Table(columns, settings, caption, folded=len(settings) > FOLDED))
    if facts := _environment(used):
        blocks.append(f"**Versions and machine**: {'; '.join(facts)}.")
    rows = [
        [
            str(run.folder), run.state, run.label, str(run.seed),
            _accuracy(run, "val"), _accuracy(run, "test"),
            words.duration(run.metrics["wall_seconds"]) if run.metrics.get("wall_seconds") else "-",
        ]
        for run in study.runs
    ]  # fmt: skip
    if rows:
        columns = ["run", "state", "augmentation", "seed", "validation, %", "test, %", "wall time"]
        caption = f"All {words.plural(len(rows), 'run')}; `runs.csv` has more of each."
        blocks.append(Table(columns, rows, caption, folded=len(rows) > FOLDED))
    if study.left_out:
        missing = [[str(folder), why, _log(folder)] for folder, why in study.left_out]
        caption = "Left out: no number above knows of these."
        blocks.append(Table(["folder", "why it is left out", "log"], missing, caption))
    trained = sum(run.metrics.get("wall_seconds") or 0 for run in used)
    looked = sum(evaluation.get("seconds") or 0 for evaluation in evaluated)
    times = [f"{words.duration(trained)} of training"] if trained else []
    times += [f"{words.duration(looked)} of evaluation"] if looked else []
    return Section("How it was made", f"{words.listed(times)}." if times else "", blocks=blocks)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.removeprefix('aug.')}={value}"
        for key, value in values.items()
        if key != "transforms" and not key.endswith("_target_")
    )


def _environment(runs: Iterable[Run]) -> list[str]:
    """Every fact of the runs' environments; where they differ, each value with its number of runs."""
    facts: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in (run.metrics.get("environment") or {}).items():
            facts.setdefault(key, Counter())[str(value)] += 1

    def said(values: Counter[str]) -> str:
        if len(values) == 1:
            return next(iter(values))
        return ", ".join(f"{v} ({words.plural(n, 'run')})" for v, n in values.most_common())

    return [f"{key.replace('_', ' ')} {said(values)}" for key, values in facts.items()]


def _accuracy(run: Run, split: str) -> str:
    accuracy = (run.metrics.get(split) or {}).get("accuracy")
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"


def _log(folder: RunFolder) -> str:
    """The file that tells what went wrong."""
    for path in (folder.failure_file, folder.path / "train.log"):
        if path.is_file():
            return str(RunFolder(path))
    return "-"


def _picture(
    findings: Findings, name: str, figure: Figure, caption: str, few_colours: bool = True
) -> Picture:
    path = findings.figures / f"{name}.png"
    figures.save_figure(figure, path, few_colours)
    return Picture(path, caption, figures.DENSITY)


def _nothing_to_compare(findings: Findings) -> str:
    if findings.study.baseline is None:
        known = words.listed(list(findings.study.groups), most=12)
        return f"There is no baseline: `baseline=LABEL` names one, of {known}."
    return f"Only {findings.study.baseline} has finished: there is nothing to compare with it."


def _not_evaluated(findings: Findings) -> str:
    command = f"{EVALUATE}{shlex.quote(str(findings.standings[0].runs[0].folder))}"
    return f"No run was evaluated yet: `{command}`, and so for every run, fills this section."


def _partly(findings: Findings) -> str:
    runs = [run for several in findings.study.groups.values() for run in several]
    missing = [run for run in runs if run.evaluation is None]
    if not missing:
        return ""
    command = f"{EVALUATE}{shlex.quote(str(missing[0].folder))}"
    return (
        f" {len(missing)} of {len(runs)} runs are not in here: `{command}` adds the first of them."
    )


SECTIONS: tuple[Callable[[Findings], Section], ...] = (
    ranking,
    by_class,
    curves,
    confusions,
    where_they_look,
    robustness,
    how_it_was_made,
)
