"""The sentences on top of the page: what a person can decide from."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from augcam.config.schema import Config
from augcam.report.analysis import Difference, Findings, GroupResult
from augcam.report.audits import shortcut_point
from augcam.report.class_changes import ClassDifferences
from augcam.report.commands import EVALUATE, REFINE, sparing_command, sweep_commands
from augcam.report.corruption_errors import OFFICIAL, CorruptionErrors
from augcam.report.load import is_limit
from augcam.report.value_curves import ValueCurve
from augcam.runs.run_folder import RunFolder
from augcam.viz import words
from augcam.viz.markdown import code, plain

_ONE_SEED = (
    "With one seed it is unknown whether another would turn the difference round; run each with three "
    "seeds or more."
)


def summary(findings: Findings) -> str:
    """What was compared, in a line or two."""
    study = findings.study
    count = Counter(run.state for run in study.runs)
    unfinished = [
        f"{count[s]} {s}" for s in ("running", "interrupted", "failed", "died") if count[s]
    ]
    state = f"; {', '.join(unfinished)}" if unfinished else ""
    if not study.groups:
        return f"No run has finished yet: {words.plural(len(study.runs), 'run')}{state}."
    metrics = next(iter(study.groups.values()))[0].metrics
    runs = [run for group in study.groups.values() for run in group]
    facts = [plain(metrics[key]) for key in ("data", "model") if metrics.get(key)]
    if metrics.get("params"):
        facts[-1:] = [f"{facts[-1]} of {metrics['params']:,} parameters"]
    epochs = sorted({run.metrics["epochs"] for run in runs if "epochs" in run.metrics})
    if epochs:
        split = _split(runs[0].config)
        of = f" of {split[0]:,} training images" if split else ""
        facts.append(f"{' or '.join(map(str, epochs))} epochs{of}")
    facts.append(f"{findings.test_images:,} test images")
    seeds = sorted({run.seed for run in runs})
    return (
        f"{', '.join(facts)}. {words.plural(len(study.groups), 'augmentation')}, "
        f"{words.plural(len(runs), 'finished run')} (seeds {', '.join(map(str, seeds))}){state}. "
        "A point is one percentage point of accuracy."
        f"{_terms(findings)}"
    )


def _terms(findings: Findings) -> str:
    """What the words of the sentences below mean, where they are going to stand."""
    base = findings.study.baseline
    if base is None or findings.searched or len(findings.standings) < 2:
        return ""
    return (
        f" *Against* {code(base)} is the difference from its accuracy, on the same test images; *within "
        "noise* is what other seeds and other test images could turn round."
    )


def key_points(findings: Findings) -> list[str]:
    """What a person can decide from: what won, what ties, what it costs, what to do next."""
    points: list[str] = []
    if findings.standings:
        points += _verdicts(findings)
        points += _class_point(findings)
        points += _spare(findings)
        points += _curve_points(findings)
        points += _cost(findings)
        points += _robust(findings)
        points += shortcut_point(findings)
        points += _next_steps(findings)
    return points


def warnings(findings: Findings) -> list[str]:
    """What a reader of the numbers must know: what is missing, and what they do not hold for."""
    study = findings.study
    points = _reduced(findings) if findings.standings else []
    running = [str(run.folder) for run in study.runs if run.state == "running"]
    if running:
        points.append(
            f"Still running, and not in here: {words.listed([code(r) for r in running])}."
        )
    failed = [run for run in study.runs if run.state == "failed"]
    if failed:
        points.append(
            f"{words.plural(len(failed), 'run')} failed: "
            f"{words.listed([code(r.folder) for r in failed])}; the reasons stand at the end."
        )
    return points + [plain(note) for note in study.notes]


def _verdicts(findings: Findings) -> list[str]:
    study, first = findings.study, findings.standings[0]
    if findings.searched:
        return _chosen(findings)
    if len(findings.standings) == 1:
        return [
            f"**{plain(first.label)}** classifies {words.percent(first.test)} of the test images "
            f"correctly ({_seeds(first)}). Nothing else has finished: there is nothing to compare."
        ]
    points = [*_headline(findings), *_ties(findings)]
    if study.baseline is None:
        return points
    rest = [s for s in findings.others if s is not first and s.difference]
    for verdict, title in (
        ("better", f"Better than {code(study.baseline)}"),
        ("worse", f"Worse than {code(study.baseline)}"),
        ("tie", f"Tied with {code(study.baseline)}"),
        (None, f"Against {code(study.baseline)}, untested"),
    ):
        named = [
            f"{plain(s.label)} {_against(s)}"
            for s in rest
            if s.difference and s.difference.verdict == verdict
        ]
        if named:
            points.append(f"{title}: {'; '.join(named)}.")
    if findings.unequal:
        stds = {s.label: s.test.std for s in findings.standings if s.test.std is not None}
        least, most = (pick(stds, key=lambda label: stds[label] or 0) for pick in (min, max))
        points.append(
            f"**Seeds spread unequally**: {plain(most)} by {100 * (stds[most] or 0):.1f} points "
            f"(standard deviation), {plain(least)} by {100 * (stds[least] or 0):.1f}. The verdicts "
            f"allow for it; more seeds of {plain(most)} sharpen them most."
        )
    return points


def _headline(findings: Findings) -> list[str]:
    """What is first, and whether that means anything."""
    first, base = findings.standings[0], findings.study.baseline
    lead, second = findings.lead, findings.standings[1]
    name = plain(first.label)
    accuracy = f"a test accuracy of {words.percent(first.test)}"
    if base is None:
        if min(len(first.runs), max(len(s.runs) for s in findings.standings[1:])) < 2:
            return [f"**{name}** is first, untested: {accuracy} ({_seeds(first)}). {_ONE_SEED}"]
        if lead is None:
            return [f"**No winner.** {name} is first, with {accuracy} ({_seeds(first)})."]
        return [f"**{name} wins**, with {accuracy} ({_seeds(first)}){_ahead(lead, second)}."]
    if first.label == base:
        return [f"**Nothing is ahead of {code(base)}**, which has {accuracy} ({_seeds(first)})."]
    assert first.difference is not None
    verdict = first.difference.verdict
    own = (
        f"{_against(first)}. Its test accuracy is {words.percent(first.test)}, that of {code(base)} "
        f"{words.percent(findings.standing(base).test)}"
    )
    if verdict == "better" and (lead or len(findings.standings) == 2):
        ahead = _ahead(lead, second) if lead and second.label != base else ""
        return [f"**{name} wins** against {code(base)}: {own}{ahead}."]
    if verdict == "better":
        return [f"**{name} is first**, and better than {code(base)}: {own}."]
    if verdict == "tie":
        return [f"**No winner.** {name} is first, but it is a tie with {code(base)}: {own}."]
    return [f"**{name}** is first, untested: {own}. {_ONE_SEED}"]


def _chosen(findings: Findings) -> list[str]:
    """A search: what it chose, by what, and what that one does on the test set."""
    first = findings.standings[0]
    if first.val is None:
        return ["**A search without validation**: nothing was chosen."]
    return [
        f"**The search chose {plain(first.label)}**: {words.percent(first.val)} on validation, the best "
        f"of {words.plural(len(findings.standings), 'setting')}, and flattered by being chosen for it. "
        f"Its test accuracy is {words.percent(first.test)} ({_seeds(first)})."
    ]


def _against(standing: GroupResult) -> str:
    """Such as `+1.3 points (95% interval 0.6 to 2.0, 3 seeds)`."""
    difference = standing.difference
    assert difference is not None
    return f"{words.points(difference.mean)} points ({_interval(difference)}{_seeds(standing)})"


def _interval(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return ""
    if difference.low < 0 < difference.high and difference.verdict != "tie":
        # Holm's step-down test sees a little more than intervals that hold all at once.
        return f"adjusted p {words.p_value(difference.p or 0.0)}, "
    ends = words.interval(100 * difference.low, 100 * difference.high).replace("+", "")
    return f"95% interval {ends}, "


def _seeds(standing: GroupResult) -> str:
    return words.plural(len(standing.runs), "seed")


def _ahead(lead: Difference, second: GroupResult) -> str:
    """By how much the first is ahead of the second."""
    return (
        f"; {words.points(lead.mean).lstrip('+')} points ahead of the second, {plain(second.label)} "
        f"({_interval(lead)}{_seeds(second)})"
    )


def _ties(findings: Findings) -> list[str]:
    """Who cannot be told from the first; of the baseline its own sentence says it."""
    if findings.lead or findings.standings[0].label == findings.study.baseline:
        return []
    tied = [f"**{plain(label)}**" for label in findings.tied if label != findings.study.baseline]
    if not tied:
        return []
    first = plain(findings.standings[0].label)
    # Each was compared with the first; nothing is said of two of them.
    which = "It cannot" if len(tied) == 1 else "None of them can"
    return [f"**A tie with {first}**: {words.listed(tied)}. {which} be told from {first}."]


def _class_point(findings: Findings) -> list[str]:
    classes = findings.per_class
    if classes is None or not classes.tested:
        return []
    first = next(s.label for s in findings.standings if s.label in classes.groups)
    return [f"**By class**: {class_sentence(classes, classes.groups.index(first))}"]


def _curve_points(findings: Findings) -> list[str]:
    classes = findings.study.classes
    return [
        f"**By {plain(curve.key)}** ({plain(curve.group)}): {parting_sentence(curve, classes, most=3)}"
        for curve in findings.value_curves
        if curve.tested
    ]


def _spare(findings: Findings) -> list[str]:
    """Where classes are clearly hurt: what spares them, and the study that would confirm it."""
    classes, study = findings.per_class, findings.study
    if classes is None or study.baseline is None:
        return []
    baseline = study.groups[study.baseline][0].config
    points = []
    for label, hurt in classes.hurt.items():
        if len(hurt) == len(classes.classes):
            continue  # what hurts every class is not for some of them
        if command := sparing_command(study.groups[label], baseline, hurt):
            named = words.listed([plain(name) for name in hurt])
            points.append(f"**To spare {named}**, which {plain(label)} hurts: {code(command)}.")
    sweeps = {run.folder.path.parent for runs in study.groups.values() for run in runs}
    if points and len(sweeps) == 1:
        (sweep,) = sweeps
        points[-1] += (
            f" Whether that helps is a study of its own: `{REFINE}{shlex.quote(str(RunFolder(sweep)))}` "
            "finds the classes on validation, confirms with fresh seeds, looks once at the test set."
        )
    return points[-3:]


def _cost(findings: Findings) -> list[str]:
    first, base = findings.standings[0], findings.study.baseline
    if not first.epoch_seconds:
        return []
    took = words.duration(first.epoch_seconds)
    text = f"**Cost**: the fastest epoch of {plain(first.label)} took {took}"
    if base and base != first.label and (least := findings.standing(base).epoch_seconds):
        text += f", that of {code(base)} {words.duration(least)}"
    return [f"{text}."]


def _robust(findings: Findings) -> list[str]:
    base = findings.study.baseline
    own = robust_sentence(findings.corruption_errors, base)
    official = robust_sentence(findings.official_errors, base)
    evaluated = [run.evaluation for s in findings.standings for run in s.runs if run.evaluation]
    if not evaluated:
        return []
    # mCE is compared over seeds: the images are as given.
    scope = (
        f"on these {evaluated[0]['images']:,} images; another choice of images is not allowed for"
    )
    points = [f"**Robustness** ({scope}): {own}"] if own else []
    return [*points, f"**{OFFICIAL.title}** ({scope}): {official}"] if official else points


def robust_sentence(errors: CorruptionErrors | None, base: str | None) -> str:
    """Who makes fewer or more errors under corruption, as far as that stands; "" if nothing is known."""
    if errors is None or len(errors.counted) < 2:
        return ""
    if not errors.tested and not (errors.fewer or errors.more):
        return "errors under corruption are not compared: it takes two evaluated seeds of each."

    def named(labels: Iterable[str]) -> str:
        return words.listed(
            [f"{plain(label)} {words.estimate(errors.counted[label], 1)}%" for label in labels]
        )

    parts = []
    if errors.fewest and errors.fewest != base:
        parts.append(f"{named([errors.fewest])}, the fewest of all")
    fewer = [label for label in errors.fewer if label != errors.fewest]
    parts += [f"fewer: {named(fewer)}"] if fewer else []
    parts += [f"more: {named(errors.more)}"] if errors.more else []
    if not parts:
        return "no difference in errors under corruption stands out from the spread of the seeds."
    return f"errors under corruption, against those of {code(base)} - {'; '.join(parts)}."


def _next_steps(findings: Findings) -> list[str]:
    study, standings = findings.study, findings.standings
    steps = []
    untested = [s.label for s in standings[1:] if min(len(s.runs), len(standings[0].runs)) < 2]
    undecided = [] if findings.lead else list(dict.fromkeys((*findings.tied, *untested)))
    if undecided and not findings.searched:
        # Seeds added to these until something stands would find something in the end. The new study
        # needs more of them than the one that could not tell.
        last = max(run.seed for s in standings for run in s.runs)
        fresh = max(3, 2 * max(len(s.runs) for s in standings))
        commands = sweep_commands(
            {label: study.groups[label] for label in (standings[0].label, *undecided)},
            seeds=range(last + 1, last + 1 + fresh),
        )
        if commands:
            more = (
                f" (and {len(commands) - 1} more like it: one report takes the folders of all)"
                if len(commands) > 1
                else ""
            )
            steps.append(
                "**Next**: a new study of what is open, with fresh seeds, to be judged by itself: "
                f"{code(commands[0])}{more}."
            )
    bare = [run for group in study.groups.values() for run in group if run.evaluation is None]
    if bare:
        steps.append(
            f"**Next**, for robustness and where the networks look: `{EVALUATE}DIR` for "
            f"{words.plural(len(bare), 'run')} not evaluated yet."
        )
    return steps


def _reduced(findings: Findings) -> list[str]:
    """What was left out for speed, or looked at too early: such numbers are not those of a full run."""
    config = findings.standings[0].runs[0].config
    holdout, split = config.data.holdout, _split(config)
    if holdout == "test":
        return [
            "**Validated on the test set** after every epoch (`data.holdout=test`): what validation "
            "chose, the test chose."
        ]
    parts = []
    if split and split[0] < split[1]:
        parts.append(f"trained on {split[0]:,} of {sum(split):,} images (`data.holdout={holdout}`)")
    varying = {key for own in findings.study.differing.values() for key in own}
    for key in ("limit_train_batches", "limit_val_batches"):
        value = getattr(config.trainer, key)
        if is_limit(value) and f"trainer.{key}" not in varying:
            parts.append(f"cut by `trainer.{key}={value}`")
    if not parts:
        return []
    return [f"**A reduced study**: {', '.join(parts)}. Full training may rank them otherwise."]


def _split(config: Config) -> tuple[int, int] | None:
    """How many images an epoch trains on and how many are held out; None where only the data know."""
    data = config.data
    every = data.training_images
    if every is None or is_limit(config.trainer.limit_train_batches):
        return None
    asked = 0 if data.holdout == "test" else data.holdout
    held_out = round(asked * every) if isinstance(asked, float) else asked
    return every - held_out, held_out


def class_sentence(classes: ClassDifferences, row: int) -> str:
    """Such as `cutout helps cat +3.1, hurts deer −0.8.`"""
    label, mean = plain(classes.groups[row]), classes.mean[row]
    clear = [int(i) for i in np.flatnonzero(classes.clear[row])]
    helped = sorted((i for i in clear if mean[i] > 0), key=lambda i: -mean[i])
    hurt = sorted((i for i in clear if mean[i] < 0), key=lambda i: mean[i])
    parts = []
    for verb, chosen in (("helps", helped), ("hurts", hurt)):
        if chosen:
            named = [f"{plain(classes.classes[i])} {words.points(mean[i])}" for i in chosen]
            parts.append(f"{verb} {words.listed(named, most=4)}")
    if parts:
        return f"{label} {', '.join(parts)}."
    if np.isnan(classes.half_width[row]).all():
        return f"{label}: no class is tested, which takes two seeds."
    # What does not stand out need not be small: with few seeds even a large change may not.
    reach = np.nanmax(np.abs(mean) + classes.half_width[row])
    return f"{label}: no class stands out; the classes' 95% intervals reach to {100 * reach:.0f} points."


def whole_sentence(curve: ValueCurve) -> str:
    """Where the accuracy over all classes differs from that at the curve's reference."""
    reference = f"{curve.values[curve.reference]:g}"
    if not curve.tested:
        return f"All classes: not compared with {reference}, which takes two seeds of each value."
    if not curve.clear.any():
        return f"All classes: no value stands out against {reference}{_power(curve)}."
    return (
        f"All classes, in points against {reference}: {changes(curve, curve.change, curve.clear)}."
    )


def parting_sentence(curve: ValueCurve, classes: Sequence[str], most: int = 6) -> str:
    """Such as `Classes part ways, in points beyond the others since 5: arrow (−4.1 at 30).`"""
    if not curve.tested:
        return "Whether classes part ways is not tested, which takes two seeds of each value."
    size = np.where(curve.apart, np.abs(curve.departure), 0).max(1)
    parting = [int(i) for i in np.argsort(-size, kind="stable") if size[i] > 0]
    if not parting:
        return f"No class is seen to part from the others{_power(curve)}."
    named = [
        f"{plain(classes[i])} ({changes(curve, curve.departure[i], curve.apart[i])})"
        for i in parting
    ]
    reference = f"{curve.values[curve.reference]:g}"
    return (
        f"Classes part ways, in points beyond the others since {reference}: "
        f"{words.listed(named, most)}."
    )


def _power(curve: ValueCurve) -> str:
    """That little would be seen, where there are few runs."""
    least = min(curve.runs)
    return (
        "" if least >= 5 else f"; with {words.plural(least, 'seed')} only large changes would show"
    )


def changes(curve: ValueCurve, change: np.ndarray, clear: np.ndarray) -> str:
    """Such as `+0.8 at 15, −2.3 at 60`, of those that stand; `-` where none does."""
    stand = np.flatnonzero(clear)
    return ", ".join(f"{words.points(change[i])} at {curve.values[i]:g}" for i in stand) or "-"
