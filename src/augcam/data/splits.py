"""Which images are held out: stratified splits by a seed, and splits by name that stay as they are."""

import hashlib
from collections.abc import Sequence

import numpy as np

from augcam.errors import UserError


def stratified_holdout(
    labels: np.ndarray, size: int | float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose `size` samples to hold out, from each class in proportion (largest remainders).

    Args:
        labels: int (N,).
        size: how many to hold out, an int; 0 holds out none. A float, 0 < size < 1, is a share of
            each class: rounded, at least one image of every class that has two.
        seed: of the choice.

    Returns:
        (train_index, val_index): int64, each sorted; together every sample once. The share of a
        class differs from exact proportion by less than one sample.

    Raises:
        UserError: the size is negative, or leaves a class without a training image.
    """
    counts = np.bincount(labels)
    taken = None
    if isinstance(size, float) and 0 < size < 1:
        rounded = np.rint(size * counts).astype(np.int64)
        taken = np.maximum(np.minimum(np.maximum(rounded, 1), counts - 1), 0)
    elif isinstance(size, int | np.integer) and 0 <= size < len(labels):
        taken = _shares(counts, int(size))
    if taken is None or np.any((taken >= counts) & (counts > 0)):
        largest = next(
            s for s in range(len(labels) - 1, -1, -1)
            if not np.any((_shares(counts, s) >= counts) & (counts > 0))
        )  # fmt: skip
        raise UserError(
            f"data.holdout={size}: of {len(labels):,} training images 0 to {largest:,} can be held "
            "out, so that every class keeps one"
        )
    random = np.random.default_rng([seed, 0x5A])  # the holdout's own stream
    held_out = np.zeros(len(labels), bool)
    for label, number in enumerate(taken):
        members = np.flatnonzero(labels == label)
        held_out[random.permutation(members)[:number]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def in_proportion(labels: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
    """`n` of the samples at most, of each class in proportion, to less than one sample: int64 indices.

    Args:
        labels: int (N,).
        random: chooses within each class.
    """
    place = np.empty(len(labels))  # within its class, 0..1, at random
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[random.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")[:n]


def hashed_split(
    names: Sequence[str], labels: np.ndarray, share: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Split by a hash of each name, so that a sample added or removed moves no other.

    Of every class with two samples or more, one at least is on each side: where the hashes leave a
    side empty, the nearest sample goes there, and may return when the class grows. A class of one
    sample is trained on.

    Args:
        names: N names.
        labels: int (N,).
        share: how much of each class the second part gets, on average, 0..1.

    Returns:
        (first, second): int64, each sorted; together every sample once.
    """
    places = np.array([_place(name) for name in names])
    second = places < share
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        inside = second[members]
        if len(members) == 1:
            second[members] = False
        elif not inside.any():
            second[members[np.argmin(places[members])]] = True
        elif inside.all():
            second[members[np.argmax(places[members])]] = False
    return np.flatnonzero(~second), np.flatnonzero(second)


def _place(name: str) -> float:
    """A name's place in 0..1: uniform, and the same on every machine."""
    content = name.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") / 2**64


def _shares(counts: np.ndarray, size: int) -> np.ndarray:
    """`size` shared out in proportion to `counts`; what is left goes to the largest remainders."""
    products = counts.astype(np.int64) * size  # integers: no rounding decides a tie
    shares, remainders = np.divmod(products, counts.sum())
    missing = size - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return shares
