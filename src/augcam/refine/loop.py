"""The loop: a study's hurt classes -> a pipeline that spares them -> fresh seeds -> one look at test."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from augcam.atomic import write_atomically
from augcam.config.by_class import Restricted, sparing, sparing_words
from augcam.config.compose import folder_name, of_any_run
from augcam.config.schema import Config
from augcam.errors import UserError, shown
from augcam.refine.decisions import (
    LEAST_SEEDS,
    Arm,
    Arms,
    Comparison,
    class_differences,
    confirmation,
    helps,
    look_at_test,
    validation_counts,
)
from augcam.report.load import Run, Study, read_study
from augcam.report.read_run import read_metrics, read_predictions
from augcam.runs.finished_run import run_source
from augcam.runs.run_folder import RunFolder

FILE = "refine.json"
MOST_HELD_OUT = 0.2  # of the training images; beyond it, runs validate on much the same ones
FIRST = "spared classes against the pipeline first, the others after it by Holm, 5% together"
ARMS: tuple[Arm, ...] = ("spared", "pipeline", "baseline")


@dataclass(frozen=True)
class Candidate:
    """A pipeline that hurts classes, and the same one kept from them.

    Attributes:
        pipeline: label of the group in the study. hurt: names of the classes.
        words: overrides that spare them. configs: of each arm, up to the seed.
        asked: what a command would change for each arm, for the run's record; None if not known.
    """

    pipeline: str
    hurt: tuple[str, ...]
    words: tuple[str, ...]
    configs: Mapping[Arm, Config]
    asked: Mapping[Arm, tuple[str, ...] | None]

    @property
    def label(self) -> str:
        """What it is called: the pipeline's label and what spares the classes."""
        return " ".join((self.pipeline, *self.words))


@dataclass(frozen=True)
class Plan:
    """What is to be done, settled before anything is trained.

    Attributes:
        baseline: label. classes: all names. seeds: the fresh ones. study: labels and their seeds.
        hurt: each class that is clearly hurt, with its difference on validation.
        candidates: what can be spared. passed_over: labels of what cannot, and why.
        tested: differences in the study's family.
        caution: what a reader of its claims must know, where a class is hurt; "" if nothing.
    """

    baseline: str
    classes: tuple[str, ...]
    seeds: tuple[int, ...]
    study: Mapping[str, list[int]]
    hurt: list[dict[str, Any]]
    candidates: tuple[Candidate, ...]
    passed_over: Mapping[str, str]
    tested: int
    caution: str

    def to_json(self) -> dict[str, Any]:
        """What refine.json keeps of it, and what must be the same when the command goes on."""
        return {
            "baseline": self.baseline,
            "study_seeds": dict(self.study),
            "fresh_seeds": list(self.seeds),
            "hurt": self.hurt,
            "candidates": {c.label: {"pipeline": c.pipeline, "spares": list(c.hurt),
                                     "overrides": list(c.words)} for c in self.candidates},
            "passed_over": dict(self.passed_over),
        }  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How the loop ended.

    Attributes:
        confirmed: of each candidate the comparisons on validation, fresh seeds.
        chosen: the confirmed one with the highest validation accuracy; None where none is.
        test: the comparisons of the chosen one on the test set.
    """

    plan: Plan
    confirmed: Mapping[str, list[Comparison]]
    chosen: Candidate | None
    test: list[Comparison]

    @property
    def won(self) -> bool:
        """Whether sparing the classes helps on the test set too."""
        return self.chosen is not None and helps(self.test)


def plan_from(study: Study, seeds: int | None = None) -> Plan:
    """What a study's validation images say is hurt, and what would spare it.

    Args:
        seeds: how many fresh ones; None for as many as the study's smallest group has.

    Raises:
        UserError: the study has no baseline, too few seeds or no validation, its settings were
            searched for, or no pipeline that hurts a class has a transform to keep from it.
    """
    _refuse(study)
    base = study.baseline
    assert base is not None
    groups = {label: runs for label, runs in study.groups.items() if len(runs) >= LEAST_SEEDS}
    if base not in groups or len(groups) < 2:
        most = max((len(r) for label, r in study.groups.items() if label != base), default=0)
        raise UserError(
            f"{shown(base)} has {len(study.groups[base])} finished seeds, and no other group more than "
            f"{most}: {LEAST_SEEDS} of each are needed to tell a hurt class from noise, better 5; add "
            "seeds to the sweep"
        )
    counts = {
        label: validation_counts([run.metrics for run in runs]) for label, runs in groups.items()
    }
    differences = class_differences(counts, base, study.classes)
    hurt = differences.hurt
    candidates, passed_over = [], {}
    for label, names in hurt.items():
        found = _candidate(study, label, names)
        if isinstance(found, str):
            passed_over[label] = found
        else:
            candidates.append(found)
    if hurt and not candidates:
        raise UserError(
            "\n".join(f"{label}: {why}" for label, why in list(passed_over.items())[:3])
        )
    last = max(run.seed for run in study.runs)
    count = seeds or min(len(runs) for runs in groups.values())
    if last + count >= 2**32:
        raise UserError(f"seed={last}: no {count} fresh seeds are left above it")
    rows = [
        {
            "pipeline": group, "class": name,
            **{key: round(float(value[i, differences.classes.index(name)]), 6) for key, value in (
                ("difference", differences.mean), ("half_width", differences.half_width),
                ("p", differences.p))},
        }
        for i, group in enumerate(differences.groups) for name in hurt.get(group, ())
    ]  # fmt: skip
    return Plan(
        base,
        study.classes,
        tuple(range(last + 1, last + 1 + count)),
        {label: [run.seed for run in runs] for label, runs in groups.items()},
        rows,
        tuple(candidates),
        passed_over,
        int((~np.isnan(differences.p)).sum()),
        _caution(study.groups[base][0]) if hurt else "",
    )


def _caution(run: Run) -> str:
    """That the runs' validation images are largely the same, where so many are held out.

    Two draws of a share of the images have that share of each in common. What the images put into a
    difference, the spread of such runs does not show.
    """
    data = run.config.data
    assert data.holdout != "test"  # _refuse
    share = data.holdout
    if isinstance(share, int):
        share /= data.training_images or len(run_source(run.folder).train())
    if share <= MOST_HELD_OUT:
        return ""
    return (
        f"data.holdout={data.holdout} is {share:.0%} of the training images, and two runs share as many "
        "of their validation images: a class may be hurt on these images alone, and more than 5% of "
        f"such claims be false of others. Hold out a fifth at most: data.holdout={MOST_HELD_OUT}"
    )


def _refuse(study: Study) -> None:
    """Raises a UserError where the study cannot say what is hurt."""
    if not study.groups:
        raise UserError("no run has finished: there is nothing to refine yet")
    if study.baseline is None:
        raise UserError(
            f"no baseline to compare with; baseline=LABEL names one of {', '.join(study.groups)}"
        )
    if len(study.groups) < 2:
        raise UserError(
            f"{study.baseline} is all there is: nothing to compare it with; add an augmentation to the "
            "sweep"
        )
    if study.search:
        raise UserError(
            "its settings were searched for on validation, which flatters them there; refine takes a "
            "sweep of settings that were chosen beforehand"
        )
    for runs in study.groups.values():
        if runs[0].config.data.holdout == "test":
            raise UserError(
                "data.holdout=test: it was validated on the test set, which is for one look at the end; "
                "train with images of the training set held out"
            )


def _candidate(study: Study, label: str, hurt: tuple[str, ...]) -> Candidate | str:
    """A pipeline kept from the classes that it hurts; or why that cannot be."""
    assert study.baseline is not None
    own, base = (study.groups[name][0].config for name in (label, study.baseline))
    if set(hurt) == set(study.classes):
        return "it hurts every class; leave it out, there is nobody to spare"
    # Another strength makes every transform another one.
    baseline_aug = base.aug if base.aug_strength == own.aug_strength else {}
    restricted = sparing(own.aug, baseline_aug, hurt, study.classes)
    if not restricted:
        return (
            f"it hurts {', '.join(hurt[:4])}, but no transform of it that {study.baseline} lacks meets "
            "these classes (mix= and the loss are not by class): there is none to keep from them"
        )
    spared = own.model_copy(update={"aug": _applied(own, restricted)})
    configs: dict[Arm, Config] = {"spared": spared, "pipeline": own, "baseline": base}
    words = tuple(sparing_words(restricted))
    given = _asked(study, label)
    asked: dict[Arm, tuple[str, ...] | None] = {
        "spared": None if given is None else (*given, *words),
        "pipeline": given,
        "baseline": _asked(study, study.baseline),
    }
    return Candidate(label, hurt, words, configs, asked)


def _asked(study: Study, label: str) -> tuple[str, ...] | None:
    """What the command that made a group changed, but for the seed: for the record in a run's folder."""
    given = study.groups[label][0].folder.overrides()
    if given is None:
        return None
    return tuple(o for o in of_any_run(given) if not o.startswith("seed="))


def _applied(config: Config, restricted: Restricted) -> dict[str, dict[str, Any] | None]:
    return {name: restricted.get(name, step) for name, step in config.aug.items()}


def refine(
    sweep: Path,
    out: Path,
    train: Callable[[RunFolder], None],
    say: Callable[[str], None],
    baseline: str | None = None,
    seeds: int | None = None,
) -> Outcome:
    """The whole loop. Runs that have finished are not trained again.

    Args:
        sweep: a folder with the study's runs; nothing is written there.
        out: the folder of the fresh runs and of refine.json.
        train: trains the run whose config lies in a folder, to its end.
        say: takes a line on what is going on.
        baseline: label of the group to compare with; None for aug=none.
        seeds: how many fresh ones.

    Raises:
        UserError: the study cannot be refined, or `out` holds the refinement of another.
    """
    plan = plan_from(read_study([sweep], baseline), seeds)
    file = out / FILE
    _refuse_another(file, plan)
    out.mkdir(parents=True, exist_ok=True)
    with RunFolder(out).locked("refine"):
        if not file.exists():  # one that is there may hold the look at the test set
            state = "training" if plan.candidates else "nothing hurt"
            _write(file, Outcome(plan, {}, None, []), state)
        if not plan.candidates:
            return Outcome(plan, {}, None, [])
        runs = {(c.label, arm): _fresh(out, c, arm, plan) for c in plan.candidates for arm in ARMS}
        folders = {run.path: run for several in runs.values() for run in several}
        if plan.caution and any(run.state() != "finished" for run in folders.values()):
            say(plan.caution)
        for number, run in enumerate(folders.values(), 1):
            if run.state() != "finished":
                say(f"{number} of {len(folders)}: {run}")
                train(run)
        outcome = decide(plan, runs)
        _write(file, outcome, "done")
    return outcome


def _fresh(out: Path, candidate: Candidate, arm: Arm, plan: Plan) -> list[RunFolder]:
    """The fresh runs of an arm, their configs written into their folders. Arms of one config share them.

    Raises:
        UserError: a folder holds another run.
    """
    label = {
        "spared": candidate.label,
        "pipeline": candidate.pipeline,
        "baseline": plan.baseline,
    }[arm]
    runs = []
    for seed in plan.seeds:
        config = candidate.configs[arm].model_copy(update={"seed": seed, "name": label[:500]})
        run = RunFolder(out / f"{folder_name(label)},seed={seed}")
        run.path.mkdir(parents=True, exist_ok=True)
        run.check_continuation(config)
        if run.state() != "finished":
            asked = candidate.asked[arm]
            run.save_config(config, None if asked is None else [*asked, f"seed={seed}"])
        runs.append(run)
    return runs


def decide(plan: Plan, runs: Mapping[tuple[str, Arm], Sequence[RunFolder]]) -> Outcome:
    """Confirm on validation; only where that succeeds, look at the test set, of the best one alone.

    Args:
        runs: the finished ones of each candidate's label and arm.
    """
    metrics = {key: [read_metrics(run) for run in several] for key, several in runs.items()}
    counts = {key: validation_counts(several) for key, several in metrics.items()}
    labels = {c.label: [plan.classes.index(name) for name in c.hurt] for c in plan.candidates}
    confirmed = confirmation(
        {
            name: Arms(
                counts[name, "spared"], counts[name, "pipeline"], counts[name, "baseline"], own
            )
            for name, own in labels.items()
        }
    )

    def accuracy(candidate: Candidate) -> float:
        hits, images = counts[candidate.label, "spared"]
        return float(hits.sum() / images.sum())

    good = [c for c in plan.candidates if helps(confirmed[c.label])]
    if not good:
        return Outcome(plan, confirmed, None, [])
    chosen = max(good, key=accuracy)
    correct: dict[Arm, np.ndarray] = {}
    for arm in ARMS:
        key = chosen.label, arm
        read = [
            read_predictions(run, own) for run, own in zip(runs[key], metrics[key], strict=True)
        ]
        correct[arm], label = np.stack([one.correct for one in read]), read[0].label
    return Outcome(plan, confirmed, chosen, look_at_test(correct, label, labels[chosen.label]))


def _refuse_another(file: Path, plan: Plan) -> None:
    """Refuse to go on under another plan: whoever looks again and again finds something in the end.

    Raises:
        UserError: refine.json was written under another plan, or cannot be read.
    """
    if not file.exists():
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["plan"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{file}: cannot be read; move it away, or give another out=DIR") from None
    if before != json.loads(json.dumps(plan.to_json())):
        raise UserError(
            f"{file}: begun with another plan - other runs in the study, classes or seeds; a second "
            "look would need a correction of its own. Give another out=DIR to begin anew"
        )


def _write(file: Path, outcome: Outcome, state: str) -> None:
    family = 4 * len(outcome.plan.candidates)
    content = {
        "state": state,
        "plan": outcome.plan.to_json(),
        "tests": {
            "study": f"{outcome.plan.tested} differences of class accuracies on validation, "
            "Benjamini-Hochberg at 5%",
            "confirmation": f"{family} differences on validation with fresh seeds, {FIRST}",
            "test set": f"4 differences of one confirmed pipeline, {FIRST}; no look where none was",
        },
        "confirmation": {
            name: [asdict(one) for one in several] for name, several in outcome.confirmed.items()
        },
        "chosen": outcome.chosen.label if outcome.chosen else None,
        "test": [asdict(one) for one in outcome.test],
        "won": outcome.won,
    }
    write_atomically(file, json.dumps(content, indent=1) + "\n")
