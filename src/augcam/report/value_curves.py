"""Groups that differ in one number alone: accuracy against it, and where classes part ways."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augcam.report.class_changes import predictions_of
from augcam.report.load import Study
from augcam.statistics import LEVEL
from augcam.statistics.comparisons import Rates
from augcam.statistics.families import benjamini_hochberg, holm
from augcam.statistics.intervals import Estimate, mean_interval

LEAST_VALUES = 3  # two are a comparison, and the ranking has it


@dataclass(frozen=True)
class ValueCurve:
    """Groups of one study that differ in `key` alone, by ascending value; accuracies in 0..1.

    Attributes:
        key: of the config, such as `aug.rotate.limit`.
        group: what they have in common, such as `rotate`.
        values: (V,). labels: of the groups. runs: how many each has.
        reference: place of the value that the others are compared with.
        accuracy: (V,), over seeds. per_class: (classes, V); None for a class without test images.
        change: (V,), accuracy less the reference's; clear: bool (V,), by Holm over the values.
        departure: (classes, V): a class's change from the reference less that of all other images;
            p: two-sided, of each by itself, NaN where a value has a single run, and at the reference.
        apart: bool (classes, V), departs after Benjamini-Hochberg over classes and values.
    """

    key: str
    group: str
    values: tuple[float, ...]
    labels: tuple[str, ...]
    runs: tuple[int, ...]
    reference: int
    accuracy: tuple[Estimate, ...]
    per_class: tuple[tuple[Estimate | None, ...], ...]
    change: np.ndarray
    clear: np.ndarray
    departure: np.ndarray
    p: np.ndarray
    apart: np.ndarray

    @property
    def tested(self) -> bool:
        """Whether any value has the two runs that a test needs, and the reference too."""
        return not np.isnan(self.p).all()


def value_curves(study: Study) -> list[ValueCurve]:
    """A curve for every numeric key that takes three values or more while all else stays the same.

    A value is compared with the study's baseline where that is on the curve, else with the lowest one.
    """
    curves = []
    for key, twins in _numeric_keys(study.differing).items():
        families: dict[str, list[str]] = {}
        for label, settings in study.differing.items():
            if _is_number(settings.get(key)):
                rest = {k: v for k, v in settings.items() if k not in twins}
                families.setdefault(json.dumps(rest, sort_keys=True), []).append(label)
        for labels in families.values():
            values = {label: float(study.differing[label][key]) for label in labels}
            if len(set(values.values())) == len(labels) >= LEAST_VALUES:
                order = sorted(labels, key=lambda label: values[label])
                curves.append(_curve(study, key, twins, {label: values[label] for label in order}))
    return curves


def _numeric_keys(differing: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The keys with numbers, and with each the keys that always have its very value, itself included.

    `scheduler.max_lr` is `${optim.lr}`: one sweep, and one curve, of the key that comes first.
    """
    found: dict[str, tuple[str, ...]] = {}
    by_values: dict[str, list[str]] = {}
    for key in sorted({key for settings in differing.values() for key in settings}):
        values = [settings.get(key) for settings in differing.values()]
        if any(map(_is_number, values)):
            by_values.setdefault(json.dumps(values), []).append(key)
    for keys in by_values.values():
        found[keys[0]] = tuple(keys)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curve(study: Study, key: str, twins: Sequence[str], values: Mapping[str, float]) -> ValueCurve:
    labels = tuple(values)
    runs = [study.groups[label] for label in labels]
    correct = {
        label: np.stack([predictions_of(run).correct for run in several])
        for label, several in zip(labels, runs, strict=True)
    }
    true = predictions_of(runs[0][0]).label
    classes = range(len(study.classes))
    overall, by_class = Rates(correct), Rates(correct, true, len(classes))
    reference = labels.index(study.baseline) if study.baseline in labels else 0
    change, change_p = np.zeros(len(labels)), np.full(len(labels), np.nan)
    departure, p = (
        np.zeros((len(classes), len(labels))),
        np.full((len(classes), len(labels)), np.nan),
    )
    for i, label in enumerate(labels):
        if i != reference:
            whole = overall.difference(label, labels[reference])
            change[i], change_p[i] = whole.mean[0], whole.p[0]
            parting = by_class.departure(label, labels[reference])
            departure[:, i], p[:, i] = parting.mean, parting.p
    twin = tuple(f"{name}=" for name in twins)
    return ValueCurve(
        key,
        ", ".join(part for part in labels[0].split(", ") if not part.startswith(twin)),
        tuple(values.values()),
        labels,
        tuple(len(several) for several in runs),
        reference,
        tuple(mean_interval(hits.mean(1).tolist()) for hits in correct.values()),
        tuple(tuple(_of(hits[:, true == k]) for hits in correct.values()) for k in classes),
        change,
        holm(change_p) < LEVEL,
        departure,
        p,
        benjamini_hochberg(p),
    )


def _of(hits: np.ndarray) -> Estimate | None:
    """Mean accuracy of runs (n, images); None without images."""
    return mean_interval(hits.mean(1).tolist()) if hits.shape[1] else None
