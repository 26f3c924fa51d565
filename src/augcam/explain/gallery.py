"""Galleries of test images: what a run's network gets right and wrong, and where it looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augcam.errors import UserError, nearest
from augcam.explain.cam import Maps
from augcam.explain.faithfulness.concentration import concentration
from augcam.explain.rows import explain_images, headings, row
from augcam.runs.finished_run import FinishedRun
from augcam.viz.grid import captioned_grid, save_png
from augcam.viz.page import Block, Picture, Section, Table


def galleries(
    run: FinishedRun,
    *,
    layers: Sequence[str],
    method: str,
    n: int,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> tuple[list[Section], list[dict[str, Any]]]:
    """Correct, misclassified and most confused test images, each with its maps.

    Args:
        layers: in the order of the columns.
        method: one of `augcam.explain.cam.METHODS`.
        n: images of each gallery.
        classes: true classes to choose from; all if empty.
        seed: of the choice of correct images.

    Raises:
        UserError: an unknown class.

    Returns:
        The page's sections (their PNGs written), and a record of every image shown.
    """
    allowed = np.ones(len(run.labels), bool)
    if classes:
        for name in classes:
            if name not in run.classes:
                raise UserError(f"classes={name}: unknown; {nearest(name, run.classes)}")
        allowed = np.isin(run.labels, [run.classes.index(name) for name in classes])
    right = run.predicted == run.labels
    confusion = np.zeros((len(run.classes),) * 2, np.int64)
    np.add.at(confusion, (run.labels[allowed], run.predicted[allowed]), 1)
    pairs = confused_pairs(confusion, run.classes, count=5)

    sections, records = [], []
    for name, heading, text, chosen in (
        (
            "confused",
            "The most confused pairs of classes",
            "Of each pair, the image that the network is surest about and wrong.",
            _one_of_each_pair(run, pairs),
        ),
        (
            "misclassified",
            "Misclassified",
            "The test images that the network gets wrong most confidently.",
            choose(~right & allowed, run.confidence, n, seed, confident=True),
        ),
        (
            "correct",
            "Correct",
            "Test images that it gets right, chosen at random.",
            choose(right & allowed, run.confidence, n, seed, confident=False),
        ),
    ):
        if len(chosen) == 0:
            sections.append(Section(heading, ["There are none."]))
            continue
        path = run.folder.explanations / f"{name}.png"
        records += draw_gallery(run, chosen, path, layers, method)
        blocks: list[Block] = [Picture(path, _HOW_TO_READ)]
        if name == "confused":
            lines = [(t, p, str(count), f"{share:.1%}") for t, p, count, share in pairs]
            blocks.insert(
                0, Table(("true class", "predicted", "images", "of the true class"), lines)
            )
        sections.append(Section(heading, [text, *blocks]))
    return sections, records


_HOW_TO_READ = (
    "Three rows an image: what speaks for the class that the network predicted, for the true class "
    "(for correct images: the runner-up), and for the first against the second. Red is evidence; a grey "
    "picture has none. Where a layer has few cells they stand beside the smooth map."
)


def _one_of_each_pair(run: FinishedRun, pairs: Sequence[tuple[str, str, int, float]]) -> np.ndarray:
    found = []
    for true, predicted, _count, _share in pairs:
        wanted = (run.labels == run.classes.index(true)) & (
            run.predicted == run.classes.index(predicted)
        )
        found += choose(wanted, run.confidence, 1, 0, confident=True).tolist()
    return np.array(found, np.int64)


def draw_gallery(
    run: FinishedRun, chosen: np.ndarray, path: Path, layers: Sequence[str], method: str
) -> list[dict[str, Any]]:
    """Draw the test images `chosen`, int (M,), three rows each, into `path`; one record an image."""
    shown = run.images[chosen]
    inputs = run.normalize(shown)
    probabilities = run.predict(inputs)
    order = probabilities.argsort(dim=1, descending=True)
    first = order[:, 0]
    truth = torch.from_numpy(run.labels[chosen]).to(first)
    second = torch.where(truth == first, order[:, 1], truth)
    targets = (first, second, torch.stack([first, second], dim=1))
    maps = [explain_images(run.network, inputs, t, layers, method) for t in targets]
    rows, captions, records = [], [], []
    for i, index in enumerate(chosen):
        predicted, other = run.classes[int(first[i])], run.classes[int(second[i])]
        confidence = float(probabilities[i, first[i]])
        label = run.classes[int(truth[i])]
        lines = (
            f"test {index}: {label} → {predicted}\n{confidence:.0%}; here: {predicted}",
            f"{other}, {float(probabilities[i, second[i]]):.0%}",
            f"{predicted} against {other}",
        )
        for found, line in zip(maps, lines, strict=True):
            rows.append(row(shown[i], found, i, layers))
            captions.append(line)
        shares = {layer: concentration(maps[0][layer].raw) for layer in layers}
        records.append(
            {
                "index": int(index),
                "true": label,
                "predicted": predicted,
                "confidence": confidence,
                "maps": map_statistics(maps[0], i, shares),
            }
        )
    columns = headings(layers, maps[0], shown.shape[1])
    save_png(captioned_grid(rows, captions, columns), path)
    return records


def choose(
    wanted: np.ndarray, confidence: np.ndarray, count: int, seed: int, confident: bool
) -> np.ndarray:
    """`count` indices where `wanted` is true: the most confident, or a random choice by `seed`.

    Args:
        wanted: bool (N,).
        confidence: float (N,).

    Returns:
        int64 (min(count, sum of wanted),).
    """
    index = np.flatnonzero(wanted)
    if confident:
        return index[np.argsort(-confidence[index], kind="stable")[:count]]
    return np.sort(np.random.default_rng(seed).permutation(index)[:count])


def confused_pairs(
    confusion: np.ndarray, classes: Sequence[str], count: int
) -> list[tuple[str, str, int, float]]:
    """The most confused pairs: (true, predicted, how many, share of the true class), most first.

    Args:
        confusion: counts (C, C), rows = true class.
    """
    counts = np.array(confusion)
    sizes = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:count]
    pairs = [divmod(int(flat), len(classes)) for flat in order]
    return [
        (classes[t], classes[p], int(counts[t, p]), float(counts[t, p] / max(1, sizes[t])))
        for t, p in pairs
        if counts[t, p] > 0
    ]


def map_statistics(maps: Maps, number: int, concentration: Mapping[str, np.ndarray]) -> dict:
    """What can be said of one image's maps in numbers, by layer."""
    return {
        layer: {
            "status": found.status[number],
            "peak": float(found.raw[number].max()),
            "concentration": float(concentration[layer][number]),
            "cells": list(found.raw.shape[1:]),
        }
        for layer, found in maps.items()
    }
