"""Run folders -> a study: which runs belong together, what they are compared with, what is left out."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from augcam.config.compose import changes, flat
from augcam.config.schema import FREE_TO_CHANGE, Config
from augcam.errors import UserError, first_line, nearest
from augcam.report.commands import EVALUATE
from augcam.report.read_run import (
    EVALUATED_ALIKE,
    Maps,
    Predictions,
    is_search,
    not_finite,
    read_evaluation,
    read_metrics,
    read_predictions,
)
from augcam.runs.run_folder import RunFolder, run_folders
from augcam.viz import words

# Keys that name a run or say which repetition it is, beside those that change no result.
_NOT_COMPARED = ("name", "seed", *FREE_TO_CHANGE)

# Keys of what is studied: to differ in them is the point of a study.
_AUGMENTATION = ("aug.", "aug_strength", "mix.", "transforms")

# What keeps a step to some classes; one that is for all has neither key.
_BY_CLASS = (".classes", ".except")

# What makes two test sets, splits or kinds of image: runs that differ here are not averaged.
_DATA = (
    "name", "dataset", "holdout", "image_size", "seed", "train_size", "test_size", "shortcut",
    "orientation_pair",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Attributes:
        state: "finished", "interrupted", "running", "failed" or "died".
        why: one line for a run that is in no group; "" for one that is.
        label: the name of its group, or of the group that it would be in.
        metrics: content of metrics.json; {} where there is none (yet).
        predictions: None where it is in no group; every run of a group has them.
        evaluation, maps: evaluation.json and .npz; both None where it was not evaluated, or otherwise
            than most runs of the study (a note tells).
        search: a sweeper that searches by validation accuracy (Optuna) chose its config.
    """

    folder: RunFolder
    config: Config
    state: str
    why: str
    label: str
    seed: int
    metrics: dict[str, Any]
    predictions: Predictions | None
    evaluation: dict[str, Any] | None
    maps: Maps | None
    search: bool = False


@dataclass(frozen=True)
class Study:
    """Runs that can be compared: one data set, one list of classes, the same test images.

    Attributes:
        runs: all run folders that have a config, sorted by path, unfinished ones too.
        groups: finished runs of one config up to the seed, by label, each sorted by seed; the baseline
            first, then by label. Empty while nothing has finished.
        baseline: label of the group that the others are compared with, or None (`notes` says why).
        classes: names of the classes; () while nothing has finished.
        left_out: folders that are in no group, and why in one line: unfinished, foreign, damaged, twice
            the same, other test images.
        differing: by label, the config keys that differ between groups, with this group's values; a key
            that a group lacks is missing from its dict. Keys of the augmentation begin with `aug.` or
            `mix.`, or are `aug_strength`; `transforms` names its steps in order.
        notes: sentences that a reader of the numbers must know.
    """

    runs: tuple[Run, ...]
    groups: dict[str, tuple[Run, ...]]
    baseline: str | None
    classes: tuple[str, ...]
    left_out: list[tuple[RunFolder, str]]
    differing: dict[str, dict[str, Any]]
    notes: list[str]

    @property
    def search(self) -> bool:
        """Whether the groups' configs were searched for by validation accuracy, all or some.

        Then the validation score is what was optimised, and the test score of the chosen config is a
        measurement; a ranking by test accuracy would choose a second time, on the test set.
        """
        return any(run.search for runs in self.groups.values() for run in runs)


@dataclass(frozen=True)
class _Read:
    """A run folder as it is on disk, before anything is compared.

    Attributes:
        augmentation: what a label calls it where no other run of its pipeline has other transforms: what
            its command took from the pipeline or added to it is a part of the name.
    """

    run: Run
    augmentation: str
    data: dict[str, Any]
    root: str | None
    settings: dict[str, Any]
    limited: bool


def read_study(paths: Sequence[Path], baseline: str | None = None) -> Study:
    """Read every run in `paths`: each a run folder, a sweep, or a folder with runs anywhere below.

    Args:
        baseline: label of the group to compare with; None takes the one whose augmentation is `none`.

    Raises:
        UserError: a path that is no folder, no run at all, an unknown `baseline`, or finished runs of
            several data sets, class lists or test sets (the message names the folders of each kind).
    """
    notes: list[str] = []
    left_out: list[tuple[RunFolder, str]] = []
    reads: list[_Read] = []
    folders, unreadable = _folders(paths)
    left_out += unreadable
    for folder in folders:
        read = _read(folder, notes)
        if isinstance(read, str):
            left_out.append((folder, read))
        else:
            reads.append(read)
    if not reads and not left_out:
        where = ", ".join(str(path) for path in paths)
        raise UserError(
            f"{where}: no runs in there; give a folder that train.py made, or one above such folders"
        )
    usable = [read for read in reads if not read.run.why]
    usable, renamed = _same_classes(usable)
    _refuse_mixed(usable)
    usable, limited = _same_length(usable, notes)
    _refuse_other_labels(usable)
    usable, repeated = _newest(usable)
    labels = _labels(usable)
    every = labels | {key: label for key, label in _labels(reads).items() if key not in labels}
    why = renamed | limited | repeated
    runs = [
        replace(read.run, label=every[_key(read.settings)], why=read.run.why or why.get(i, ""))
        for read in reads
        for i in [id(read)]
    ]
    runs = [run if not run.why else replace(run, predictions=None) for run in runs]
    runs = _same_evaluation(runs, notes)
    left_out += [(run.folder, run.why) for run in runs if run.why]
    members: dict[str, list[Run]] = {}
    for run in runs:
        if not run.why:
            members.setdefault(run.label, []).append(run)
    settings = {every[_key(read.settings)]: read.settings for read in usable}
    chosen = _chosen_baseline(baseline, settings, notes)
    groups = {
        label: tuple(sorted(members[label], key=lambda run: run.seed))
        for label in sorted(members, key=lambda label: (label != chosen, label))
    }
    differing = _differing(settings)
    _add_notes(usable, differing, groups, notes)
    return Study(
        runs=tuple(runs),
        groups=groups,
        baseline=chosen,
        classes=tuple(usable[0].run.metrics["classes"]) if usable else (),
        left_out=sorted(left_out, key=lambda item: str(item[0].path)),
        differing=differing,
        notes=notes,
    )


# ------------------------------------------------------------------------------- reading
def _folders(
    paths: Sequence[Path],
) -> tuple[list[RunFolder], list[tuple[RunFolder, str]]]:
    """Every folder in or below `paths` that holds a run, or what looks like a part of one.

    Returns:
        The run folders by path, and the folders that cannot be looked into, with the reason.
    """
    runs: dict[Path, RunFolder] = {}
    unreadable: list[tuple[RunFolder, str]] = []
    for path in paths:
        path = Path(path).expanduser()
        if not path.is_dir():
            beside = [p.name for p in path.parent.glob("*") if p.is_dir()]
            hint = f"; {nearest(path.name, beside)}" if beside else ""
            raise UserError(f"{path}: no such folder{hint}")

        def closed(error: OSError, path: Path = path) -> None:
            where = RunFolder(error.filename or path)
            unreadable.append((where, f"cannot be read: {error.strerror}"))

        runs |= {run.path.resolve(): run for run in run_folders(path, closed)}
    return [runs[key] for key in sorted(runs)], unreadable


def _read(folder: RunFolder, notes: list[str]) -> _Read | str:
    """A run folder's content, or in one line why it is none.

    A folder is foreign data: whatever reading it raises is a reason to leave it out, and no reason to
    keep the others from being compared.
    """
    try:
        state = folder.state()
        if state == "foreign":
            return "no run of AugCAM: .hydra/config.yaml is missing"
        config = folder.config()
    except Exception as error:
        return f"its config cannot be read: {first_line(error)}"
    metrics: dict[str, Any] = {}
    predictions, why = None, ""
    try:
        metrics = read_metrics(folder)
        why = _unfinished(folder, config, state) or _without_results(metrics)
        predictions = None if why else read_predictions(folder, metrics)
    except Exception as error:
        why = f"damaged: {first_line(error)}"
    evaluation, maps = None, None
    if predictions is not None:
        try:
            read = read_evaluation(folder, predictions, len(metrics["classes"]))
            evaluation, maps = read or (None, None)
        except Exception as error:
            notes.append(
                f"{folder}: its evaluation is not used, {first_line(error)}; "
                f"{EVALUATE}{shlex.quote(str(folder))} makes it."
            )
    plain = config.model_dump(mode="json", by_alias=True)
    # A step that is null is not there; the order of the others counts, as does their being there.
    plain["aug"] = {name: step for name, step in plain["aug"].items() if step}
    steps = ", ".join(plain["aug"]) or "none"
    settings = {
        key: value for key, value in flat(plain).items() if not key.startswith(_NOT_COMPARED)
    }
    settings = {k: v for k, v in settings.items() if k.removeprefix("data.") not in _DATA}
    settings["aug_name"] = _augmentation(config)
    data = {key: plain["data"][key] for key in _DATA if key in plain["data"]}
    return _Read(
        Run(
            folder, config, state, why, "", config.seed, metrics, predictions, evaluation, maps,
            is_search(folder),
        ),
        _augmentation(config, changes(folder.overrides() or (), whole_steps=True)),
        data,
        plain["data"].get("root"),
        settings | {"transforms": steps},
        is_limit(config.trainer.limit_test_batches),
    )  # fmt: skip


def _augmentation(config: Config, changed: str = "") -> str:
    """What a study calls it: the pipeline, and what mixes its batches, such as `flip+mixup`."""
    parts = [part for part in (config.aug_name + changed, config.mix.name) if part != "none"]
    return "+".join(parts) or "none"


def is_limit(batches: float | None) -> bool:
    """Whether a `trainer.limit_*_batches` leaves anything out: 1 is one batch, 1.0 is all."""
    return batches is not None and not (isinstance(batches, float) and batches == 1)


def _unfinished(folder: RunFolder, config: Config, state: str) -> str:
    """Why a run is not finished; "" if it is."""
    goes_on = f"{folder.command_to_go_on(config)} goes on"
    return {
        "finished": "",
        "failed": f"failed: {folder.why()}",
        "interrupted": f"interrupted; {goes_on}",
        "running": "still running",
        "died": f"ended unexpectedly, with no error recorded; {goes_on}",
    }.get(state, state)


def _without_results(metrics: Mapping[str, Any]) -> str:
    """Why a finished run's metrics.json has nothing to compare; "" if it has."""
    if not metrics.get("test"):
        return "finished without a test: trainer.limit_test_batches=0"
    where = not_finite(metrics)
    return f"diverged: its {where} is not finite" if where else ""


# --------------------------------------------------------------------- what can be compared
def _same_classes(reads: list[_Read]) -> tuple[list[_Read], dict[int, str]]:
    """The runs whose classes are those of most; and why not, by id, for the others.

    Where no list of classes has more than half of the runs, all stay: `_refuse_mixed` asks which.
    """
    lists = Counter(tuple(read.run.metrics["classes"]) for read in reads)
    usual, count = lists.most_common(1)[0] if lists else ((), 0)
    if 2 * count <= len(reads):
        return reads, {}
    others = {
        id(
            read
        ): f"its classes ({', '.join(read.run.metrics['classes'][:3])}, ...) are not those of "
        f"the other {count} runs"
        for read in reads
        if tuple(read.run.metrics["classes"]) != usual
    }
    return [read for read in reads if id(read) not in others], others


def _refuse_mixed(reads: Sequence[_Read]) -> None:
    """Refuse runs of several data sets or class lists.

    Raises:
        UserError: with the folders of each kind.
    """
    kinds: dict[tuple, list[_Read]] = {}
    for read in reads:
        kinds.setdefault((*read.data.items(), *read.run.metrics["classes"]), []).append(read)
    if len(kinds) > 1:
        raise _mixed("runs on several data sets cannot be compared", kinds.values())


def _refuse_other_labels(reads: Sequence[_Read]) -> None:
    """Refuse runs whose test images have other labels: other images, or another order.

    Raises:
        UserError: with the folders of each kind.
    """
    kinds: dict[bytes, list[_Read]] = {}
    for read in reads:
        if read.run.predictions:
            kinds.setdefault(read.run.predictions.label.tobytes(), []).append(read)
    if len(kinds) > 1:
        raise _mixed("runs whose test images have other labels cannot be compared", kinds.values())


def _mixed(problem: str, kinds: Iterable[Sequence[_Read]]) -> UserError:
    lines = [f"{problem}; give the folders of one kind:"]
    for reads in kinds:
        first = reads[0]
        data = [f"data.{key}={value}" for key, value in first.data.items()]
        data += [f"data.root={first.root}"] if first.root else []
        classes = first.run.metrics["classes"]
        shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        names = [str(read.run.folder) for read in reads]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        lines.append(
            f"{', '.join(data)}, {len(classes)} classes ({shown}): {', '.join(names[:4])}{more}"
        )
    return UserError("\n".join(lines))


def _same_length(reads: list[_Read], notes: list[str]) -> tuple[list[_Read], dict[int, str]]:
    """The runs with the largest test set; and why not, by id, for the others."""
    sizes = {id(r): len(r.run.predictions.label) for r in reads if r.run.predictions}
    largest = max(sizes.values(), default=0)
    kept = [read for read in reads if sizes[id(read)] == largest]
    if any(read.limited for read in kept):
        notes.append(
            f"The test set was cut to {largest:,} images with trainer.limit_test_batches: these "
            "accuracies are not those of the whole."
        )
    return kept, {
        key: f"tested on {size:,} of the others' {largest:,} images (trainer.limit_test_batches)"
        for key, size in sizes.items()
        if size < largest
    }


def _newest(reads: Sequence[_Read]) -> tuple[list[_Read], dict[int, str]]:
    """Of runs with one config and one seed the last to finish; and why not, by id, for the others."""
    kept: dict[tuple[str, int], _Read] = {}
    repeated = {}
    in_time = sorted(
        reads, key=lambda r: (r.run.folder.metrics_file.stat().st_mtime, str(r.run.folder))
    )
    for read in reversed(in_time):
        later = kept.setdefault((_key(read.settings), read.run.seed), read)
        if later is not read:
            repeated[id(read)] = (
                f"same config and seed as {later.run.folder}, which is later and is used"
            )
    return [read for read in reads if id(read) not in repeated], repeated


def _same_evaluation(runs: Sequence[Run], notes: list[str]) -> list[Run]:
    """Take away evaluations that were made in another way than most."""

    def way(run: Run) -> str:
        assert run.evaluation is not None
        alike = {key: run.evaluation[key] for key in EVALUATED_ALIKE}
        alike["samples"] = run.evaluation.get("asked", {}).get("samples")
        return ", ".join(f"{key}={value}" for key, value in alike.items())

    ways = Counter(way(run) for run in runs if run.evaluation and not run.why)
    usual = ways.most_common(1)[0][0] if ways else ""
    kept = []
    for run in runs:
        other = run.evaluation is not None and not run.why and way(run) != usual
        if other:
            notes.append(
                f"{run.folder}: its evaluation ({way(run)}) is not used, the others have {usual}."
            )
        kept.append(replace(run, evaluation=None, maps=None) if other or run.why else run)
    return kept


# -------------------------------------------------------------------------------- groups
def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _varying(several: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys in which settings differ, sorted; a missing key is a difference."""
    several = list(several)
    keys = sorted({key for settings in several for key in settings})
    return [k for k in keys if len({json.dumps(s.get(k, "\0")) for s in several}) > 1]


def _labels(reads: Iterable[_Read]) -> dict[str, str]:
    """A name for each config: its augmentation, and what tells it from others of that name."""
    by_aug: dict[str, dict[str, _Read]] = {}
    # Of runs of one config some may not have recorded what their command changed: those come last.
    for read in sorted(reads, key=lambda read: len(read.augmentation), reverse=True):
        by_aug.setdefault(read.settings["aug_name"], {}).setdefault(_key(read.settings), read)
    labels: dict[str, str] = {}
    for aug, by_key in by_aug.items():
        configs = {key: read.settings for key, read in by_key.items()}
        # A step that only some have is told by `transforms`; its parameters would say it again.
        shown = [
            key
            for key in _varying(configs.values())
            if not key.startswith("aug.")
            or key.endswith(_BY_CLASS)
            or all(key in config for config in configs.values())
        ]
        told = "transforms" in shown
        names = {key: aug if told else read.augmentation for key, read in by_key.items()}
        for text in (_shown, json.dumps):
            own = {key: _label(names[key], config, shown, text) for key, config in configs.items()}
            if len(set(own.values())) == len(own):  # where six digits tell them apart
                break
        labels |= own
    return labels


def _label(
    aug: str, config: Mapping[str, Any], keys: Iterable[str], text: Callable[[Any], str]
) -> str:
    """Such as `rotate, aug.rotate.limit=30`; where a step is for all classes, nothing is said of it."""
    told = [name for name in keys if name in config or not name.endswith(_BY_CLASS)]
    return ", ".join([aug, *(f"{name}={text(config.get(name))}" for name in told)])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return words.six_digits(value)
    return str(value).replace(", ", "+") if isinstance(value, str) else json.dumps(value)


def _chosen_baseline(
    asked: str | None, settings: Mapping[str, Mapping[str, Any]], notes: list[str]
) -> str | None:
    """The label of the baseline; None, and a note why, where it is open.

    Raises:
        UserError: there is no group `asked`.
    """
    if asked is not None:
        if asked not in settings:
            raise UserError(f"baseline={asked}: no such group; {nearest(asked, settings)}")
        return asked
    # `aug=none +aug/op@aug.blur=blur` is called none as well.
    plain = sorted(
        label
        for label, config in settings.items()
        if config["aug_name"] == config["transforms"] == "none"
    )
    if len(plain) == 1:
        return plain[0]
    if settings:
        reason = (
            f"several groups have aug=none ({'; '.join(plain)})"
            if plain
            else "no finished run has aug=none"
        )
        notes.append(
            f"There is no baseline, {reason}: nothing is compared. baseline=LABEL names one."
        )
    return None


def _differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    varying = [key for key in _varying(settings.values()) if key != "aug_name"]
    return {
        label: {key: config[key] for key in varying if key in config}
        for label, config in sorted(settings.items())
    }


def _add_notes(
    reads: Sequence[_Read],
    differing: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[Run]],
    notes: list[str],
) -> None:
    """Add what a reader of the numbers must know."""
    beside = sorted(
        {k for keys in differing.values() for k in keys if not k.startswith(_AUGMENTATION)}
    )
    if beside:
        notes.append(
            f"Groups differ in more than the augmentation: {', '.join(beside)}. A difference in "
            "accuracy may come from there."
        )
    roots = sorted({read.root for read in reads if read.root})
    if len(roots) > 1:
        notes.append(
            f"The runs name several data.root ({', '.join(roots)}). Classes and test labels agree; "
            "that the images do is not known."
        )
    single = [label for label, runs in groups.items() if len(runs) == 1]
    if single:
        notes.append(
            f"One seed only: {', '.join(single)}. No interval can be given for these by themselves."
        )
