"""The sentences on top of the page: what a person can decide from."""

from collections import Counter

import numpy as np

from augcam.config.schema import Config
from augcam.report.analysis import Findings, GroupResult
from augcam.report.commands import EVALUATE, sweep_commands
from augcam.report.load import is_limit
from augcam.report.statistics import ClassDifferences, Difference
from augcam.viz import words


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
    facts = [metrics[key] for key in ("data", "model") if metrics.get(key)]
    if metrics.get("params"):
        facts[-1:] = [f"{facts[-1]} of {metrics['params']:,} parameters"]
    epochs = sorted({run.metrics["epochs"] for run in runs if "epochs" in run.metrics})
    if epochs:
        trained = _training_images(runs[0].folder.config())
        of = f" of {trained:,} training images" if trained else ""
        facts.append(f"{' or '.join(map(str, epochs))} epochs{of}")
    facts.append(f"{findings.test_images:,} test images")
    seeds = sorted({run.seed for run in runs})
    return (
        f"{', '.join(facts)}. {words.plural(len(study.groups), 'augmentation')}, "
        f"{words.plural(len(runs), 'finished run')} (seeds {', '.join(map(str, seeds))}){state}. "
        "A point is one percentage point of accuracy."
    )


def key_points(findings: Findings) -> list[str]:
    """What a person can decide from: what won, what ties, what it costs, what to do next."""
    study = findings.study
    points: list[str] = []
    if findings.standings:
        points += _verdicts(findings)
        points += _class_point(findings)
        points += _cost(findings)
        points += _robust(findings)
        points += _next_steps(findings)
        points += _reduced(findings)
    running = [str(run.folder) for run in study.runs if run.state == "running"]
    if running:
        points.append(
            f"Still running, and not in here: {words.listed([f'`{r}`' for r in running])}."
        )
    failed = [run for run in study.runs if run.state == "failed"]
    if failed:
        points.append(
            f"{words.plural(len(failed), 'run')} failed: "
            f"{words.listed([f'`{r.folder}`' for r in failed])}; the reasons stand at the end."
        )
    return points + study.notes


def _verdicts(findings: Findings) -> list[str]:
    study, first = findings.study, findings.standings[0]
    if len(findings.standings) == 1:
        return [
            f"**{first.label}** has {words.percent(first.test)} of the test images right "
            f"({_seeds(first)}). Nothing else has finished: there is nothing to compare."
        ]
    if study.baseline is None:
        text = (
            f"**{first.label}** is first, with {words.percent(first.test)} of the test images right"
        )
        return [f"{text} ({_seeds(first)}).", *_ties(findings)]
    base = findings.standing(study.baseline)
    points = []
    if first is base:
        points.append(
            f"**Nothing is ahead of `{base.label}`**, which has {words.percent(base.test)} of the test "
            f"images right ({_seeds(base)})."
        )
    else:
        assert first.difference is not None
        alone = all(lead.verdict == "better" for lead in findings.lead.values())
        titles = {
            "better": f"**{first.label} {'wins' if alone else 'leads'}**",
            "tie": f"**No winner.** {first.label} is first, but it is a tie with `{base.label}`",
        }
        title = titles.get(first.difference.verdict or "", f"**{first.label}** is first")
        points.append(
            f"{title}: {_against(first, base.label)}. It has {words.percent(first.test)} of the test "
            f"images right, `{base.label}` {words.percent(base.test)}. {first.difference.why}".strip()
        )
        points += [*_runner_up(findings), *_ties(findings)]
    rest = [s for s in findings.others if s is not first and s.difference]
    for verdict, title in (
        ("better", f"Better than `{base.label}`"),
        ("worse", f"Worse than `{base.label}`"),
        ("tie", f"Tied with `{base.label}`"),
        (None, f"Against `{base.label}`"),
    ):
        named = [
            f"{s.label} {_against(s)}"
            for s in rest
            if s.difference and s.difference.verdict == verdict
        ]
        if named:
            points.append(f"{title}: {'; '.join(named)}.")
    return points


def _against(standing: GroupResult, base: str = "") -> str:
    """Such as `+1.3 points over none (95% interval 0.6 to 2.0, 3 seeds)`."""
    difference = standing.difference
    assert difference is not None
    text = f"{words.points(difference.mean)} points{f' over `{base}`' if base else ''}"
    return f"{text} ({_interval(difference)}{_seeds(standing)})"


def _interval(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return ""
    ends = words.interval(100 * difference.low, 100 * difference.high).replace("+", "")
    return f"95% interval {ends}, "


def _seeds(standing: GroupResult) -> str:
    return words.plural(len(standing.runs), "seed")


def _runner_up(findings: Findings) -> list[str]:
    """By how much the first is ahead of the second, where that is no tie and not said elsewhere."""
    second = findings.standings[1]
    lead = findings.lead[second.label]
    if lead.verdict != "better" or second.label == findings.study.baseline:
        return []
    return [
        f"Ahead of the second, {second.label}, by {words.points(lead.mean).lstrip('+')} points "
        f"({_interval(lead)}{_seeds(second)})."
    ]


def _ties(findings: Findings) -> list[str]:
    """Who cannot be told from the first, the baseline apart: its own sentence says that."""
    first = findings.standings[0]
    against = {k: lead.verdict for k, lead in findings.lead.items() if k != findings.study.baseline}
    tied = [f"**{label}**" for label, verdict in against.items() if verdict == "tie"]
    if tied:
        return [
            f"**A tie with {first.label}**: {words.listed(tied)}. The difference is within noise, so "
            "the order among them means nothing."
        ]
    if against and not any(against.values()):
        return ["One seed each: whether another seed would change the order is unknown."]
    return []


def _class_point(findings: Findings) -> list[str]:
    found = findings.per_class
    if found is None or found.images_only:
        return []
    first = next(s.label for s in findings.standings if s.label in found.groups)
    return [f"**By class**: {class_sentence(found, found.groups.index(first))}"]


def _cost(findings: Findings) -> list[str]:
    first, base = findings.standings[0], findings.study.baseline
    if not first.epoch_seconds:
        return []
    text = (
        f"**Cost**: the fastest epoch of {first.label} took {words.duration(first.epoch_seconds)}"
    )
    if base and base != first.label and (least := findings.standing(base).epoch_seconds):
        text += f", that of `{base}` {words.duration(least)}"
    return [f"{text}."]


def _robust(findings: Findings) -> list[str]:
    errors, base = findings.corruption_errors, findings.study.baseline
    if base is None or len(errors) < 2:
        return []
    best = min(errors, key=lambda label: errors[label].mean)
    first = findings.standings[0].label
    if best == base:
        return [f"**Robustness**: nothing makes fewer errors under corruption than `{base}`."]
    text = (
        f"**Robustness**: {best} makes the fewest errors under corruption, "
        f"{words.estimate(errors[best], 1)}% of those of `{base}`"
    )
    if first not in (best, base) and first in errors:
        text += f"; {first} makes {words.estimate(errors[first], 1)}%"
    high, low = errors[best].high, errors[base].low
    if high is None or low is None:
        return [f"{text}. One seed: what another would change is unknown."]
    text += f". The seeds of `{base}` themselves spread over {words.estimate(errors[base], 1)}%"
    return [f"{text}: that is not yet a clear difference." if high >= low else f"{text}."]


def _next_steps(findings: Findings) -> list[str]:
    study, standings = findings.study, findings.standings
    steps = []
    undecided = [label for label, lead in findings.lead.items() if lead.verdict != "better"]
    if undecided:
        last = max(run.seed for s in standings for run in s.runs)
        commands = sweep_commands(
            {label: study.groups[label] for label in (standings[0].label, *undecided)},
            seeds=range(last + 1, last + 4),
        )
        if commands:
            more = f" (and {len(commands) - 1} more like it)" if len(commands) > 1 else ""
            steps.append(
                f"**Next**, to tell apart what is open: three more seeds, `{commands[0]}`{more}."
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
    config = findings.standings[0].runs[0].folder.config()
    holdout, trained = config.data.holdout, _training_images(config)
    if holdout == "test":
        return [
            "**Validated on the test set** after every epoch (`data.holdout=test`): what validation "
            "chose, the test chose."
        ]
    parts = []
    if trained and trained < holdout:
        parts.append(
            f"trained on {trained:,} of {trained + holdout:,} images (`data.holdout={holdout}`)"
        )
    varying = {key for own in findings.study.differing.values() for key in own}
    for key in ("limit_train_batches", "limit_val_batches"):
        value = getattr(config.trainer, key)
        if is_limit(value) and f"trainer.{key}" not in varying:
            parts.append(f"cut by `trainer.{key}={value}`")
    if not parts:
        return []
    return [f"**A reduced study**: {', '.join(parts)}. Full training may rank them otherwise."]


def _training_images(config: Config) -> int | None:
    """How many images an epoch trains on; None where only the data know."""
    data = config.data
    every = 50_000 if data.name == "cifar10" else getattr(data, "train_size", None)
    if every is None or is_limit(config.trainer.limit_train_batches):
        return None
    return int(every) - (0 if data.holdout == "test" else data.holdout)


def class_sentence(found: ClassDifferences, row: int) -> str:
    """Such as `cutout helps cat +3.1, hurts deer −0.8.`"""
    label, mean = found.groups[row], found.mean[row]
    clear = [int(i) for i in np.flatnonzero(found.clear[row])]
    helped = sorted((i for i in clear if mean[i] > 0), key=lambda i: -mean[i])
    hurt = sorted((i for i in clear if mean[i] < 0), key=lambda i: mean[i])
    parts = []
    for verb, chosen in (("helps", helped), ("hurts", hurt)):
        if chosen:
            named = [f"{found.classes[i]} {words.points(mean[i])}" for i in chosen]
            parts.append(f"{verb} {words.listed(named, most=4)}")
    if not parts:
        return f"{label}: no class differs by more than noise."
    return f"{label} {', '.join(parts)}."
