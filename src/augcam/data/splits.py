"""Stratified splits: the same for the same seed."""

import numpy as np

from augcam.errors import UserError


def stratified_holdout(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose `size` samples to hold out, from each class in proportion (largest remainders).

    Args:
        labels: int (N,).
        size: how many to hold out; 0 holds out none.
        seed: of the choice.

    Returns:
        (train_index, val_index): int64, each sorted; together every sample once. The share of a
        class differs from exact proportion by less than one sample.

    Raises:
        UserError: the size is negative, or leaves a class without a training image.
    """
    counts = np.bincount(labels)
    taken = _shares(counts, size) if 0 <= size < len(labels) else None
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


def _shares(counts: np.ndarray, size: int) -> np.ndarray:
    """`size` shared out in proportion to `counts`; what is left goes to the largest remainders."""
    products = counts.astype(np.int64) * size  # integers: no rounding decides a tie
    shares, remainders = np.divmod(products, counts.sum())
    missing = size - shares.sum()
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return shares
