"""Statistics and digests of images."""

from typing import Any

import numpy as np

from augcam.data.datasets.base import digest, statistics


def test_statistics_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 7, 3), dtype=np.uint8)
    mean, std = statistics(images)
    assert np.allclose(mean, (images / 255).mean(axis=(0, 1, 2)))
    assert np.allclose(std, (images / 255).std(axis=(0, 1, 2)))
    assert statistics(np.zeros((1, 2, 2, 3), np.uint8))[1] == (1 / 255,) * 3


def test_no_two_sequences_have_one_digest():
    texts = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], []]
    sequences: list[list[Any]] = [*texts, [b"abc"], [1, 2], [12]]
    # bytes and the same text are one content
    assert len({digest(sequence) for sequence in sequences}) == len(sequences) - 1
    assert digest(["ab", "c"]) == digest(iter(["ab", "c"]))
