"""Accuracy under corruption: AugCAM's own, and the official one where it was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from augcam.data.cifar10c import EXTRA
from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.corruption_errors import (
    OFFICIAL,
    OWN,
    TRAINED,
    CorruptionErrors,
    CorruptionSet,
)
from augcam.report.key_points import robust_sentence
from augcam.report.sections.parts import not_evaluated, partly, picture
from augcam.viz import words
from augcam.viz.markdown import code
from augcam.viz.page import Block, Row, Section, Table

_MCE = (
    "Mean corruption error (mCE): the errors under each corruption as a share of those of {base}, "
    "averaged over corruptions, in per cent (Hendrycks and Dietterich, arXiv 1903.12261, whose baseline "
    "is AlexNet); below 100 is more robust. {aside} ± is half of the 95% interval over the row's own "
    "seeds."
)


def robustness(findings: Findings) -> Section:
    """Accuracy under corruption."""
    heading = "Robustness"
    evaluated = [run.evaluation for s in findings.standings for run in s.runs if run.evaluation]
    if not evaluated:
        return Section(heading, [not_evaluated(findings)])
    text = (
        f"{evaluated[0]['images']:,} of {findings.test_images:,} test images, a stratified choice (seed "
        f"{evaluated[0]['seed']}), the same for every run.{partly(findings)} What stands out does so on "
        "these images: other seeds are allowed for, another choice of images is not."
    )
    trained = words.listed([code(name) for name in TRAINED])
    aside = f"{trained} are what crop and rotate train on, so the last column leaves them out."
    own = _blocks(
        findings, OWN, findings.corruption_errors, aside,
        ["mCE, %", f"mCE without {' and '.join(TRAINED)}, %"],
    )  # fmt: skip
    aside = (
        "Numbers are over the paper's fifteen corruptions; one column has those of its four extra ones "
        f"({', '.join(EXTRA)}) that are there as well."
    )
    official = _blocks(
        findings, OFFICIAL, findings.official_errors, aside, ["mCE with extra ones, %", "mCE, %"],
        EXTRA,
    )  # fmt: skip
    if not official:
        return Section(heading, [text, *own])
    return Section(heading, [text, "**AugCAM's corruptions**", *own, *_origin(findings), *official])


def _origin(findings: Findings) -> list[Block]:
    """What the files of CIFAR-10-C are, and are not."""
    records = [OFFICIAL.record(run) for s in findings.standings for run in s.runs]
    known = [record for record in records if record]
    others = sorted({str(name) for record in known for name in record.get("other_files") or []})
    text = f"**{OFFICIAL.title}**, the corrupted test images of Hendrycks and Dietterich"
    if not others:
        return [f"{text}; the files are the official ones, by their MD5."]
    named = words.listed([code(f"{name}.npy") for name in others])
    return [
        f"{text}, as files that are **not the official ones**, by the MD5 of {named}: these numbers "
        "compare with no published ones."
    ]


def _blocks(
    findings: Findings,
    kind: CorruptionSet,
    errors: CorruptionErrors | None,
    aside: str,
    columns: Sequence[str],
    extra: Sequence[str] = (),
) -> list[Block]:
    """The sentence, the table and the pictures of one set of corruptions; [] if it was not measured.

    Means are over all corruptions but `extra`.
    """
    runs = {s.label: [run for run in s.runs if kind.record(run)] for s in findings.standings}
    runs = {label: several for label, several in runs.items() if several}
    if not runs:
        return []
    accuracies = {label: [_accuracies(kind.record(run)) for run in runs[label]] for label in runs}
    every = [record for several in accuracies.values() for record in several]
    names = [name for name in every[0] if all(name in record for record in every)]
    if not names:
        return ["The evaluations have no corruption in common."]
    # (runs, corruptions, severities) of each group
    tables = {
        label: np.array([[record[name] for name in names] for record in several])
        for label, several in accuracies.items()
    }
    clean = {
        label: [run.evaluation["accuracy"] for run in several if run.evaluation]
        for label, several in runs.items()
    }
    counted = [i for i, name in enumerate(names) if name not in extra]
    means = {label: table[:, counted].mean(1) for label, table in tables.items()}
    heat = figures.accuracy_heatmap(
        np.array([[np.mean(clean[label]), *t.mean(axis=(0, 2))] for label, t in tables.items()]),
        list(tables),
        ["clean", *(name.replace("_", " ") for name in names)],
    )
    strengths = {
        label: [list(enumerate([c, *run])) for c, run in zip(clean[label], mean, strict=True)]
        for label, mean in means.items()
    }
    lines = figures.lines_figure(strengths, findings.styles, "severity (0: clean)", "accuracy, %")
    rows = [
        [
            label,
            str(len(t)),
            f"{100 * np.mean(clean[label]):.1f}",
            f"{100 * means[label].mean():.1f}",
            words.estimate(errors.all[label], 1) if errors and label in errors.all else "-",
            words.estimate(errors.counted[label], 1) if errors and label in errors.counted else "-",
        ]
        for label, t in tables.items()
    ]
    base = findings.study.baseline
    caption = "Without an evaluated baseline there is no relative error (mCE)."
    if errors:
        caption = _MCE.format(base=code(base), aside=aside)
    several = any(len(t) > 1 for t in tables.values())
    shaded = ", mean over seeds, shaded from the lowest to the highest run" if several else ""
    over = f"{len(counted)} corruptions at {tables[next(iter(tables))].shape[2]} severities"
    sentence = robust_sentence(errors, base)
    prefix = f"{kind.key}_" if kind.key else ""
    table = Table(["augmentation", "seeds", "clean, %", "corrupted, %", *columns], rows, caption)
    return [
        sentence[:1].upper() + sentence[1:],
        Row([table, picture(findings, f"{prefix}severities", lines, f"Mean over {over}{shaded}.")]),
        picture(
            findings, f"{prefix}corruptions", heat, "Accuracy in %, mean over severities and seeds."
        ),
    ]


def _accuracies(record: Mapping[str, Any] | None) -> dict[str, list[float]]:
    return dict(record["corruptions"]) if record else {}
