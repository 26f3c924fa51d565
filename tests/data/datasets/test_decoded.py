"""What is common to data sets whose images are decoded one by one."""

from collections import Counter

import numpy as np
import pytest

from augcam.data.datasets import decoded
from augcam.data.datasets.base import digest, statistics
from augcam.data.datasets.decoded import DecodedDataset, Split
from augcam.data.datasets.stored import StoredImages


class Grey(DecodedDataset):
    """Image `number` is that grey all over; counts what is decoded."""

    _side = 4

    def __init__(self, cache, memory_gb=1.0, sizes=(600, 7)) -> None:
        self.cache, self.memory_gb = cache, memory_gb
        self.sizes = dict(zip(("train", "test"), sizes, strict=True))
        self.decoded: Counter[Split] = Counter()

    def _labels(self, split: Split) -> np.ndarray:
        return np.arange(self.sizes[split]) % 3

    def _image(self, split: Split, number: int) -> np.ndarray:
        self.decoded[split] += 1
        return np.full((4, 4, 3), number % 256, np.uint8)

    def _contents(self):
        yield from (split for split in self.sizes)

    def _cache_key(self, split: Split) -> str:
        return f"grey-{split}"


def test_a_split_is_its_images_with_their_labels(tmp_path):
    test = Grey(tmp_path).test()
    assert test.images[:][:, 0, 0, 0].tolist() == list(range(7))
    assert test.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_statistics_are_those_of_500_training_images_and_computed_once(tmp_path):
    dataset = Grey(tmp_path)
    first = np.random.default_rng(0).permutation(600)[:500]
    expected = statistics(dataset._image("train", int(number)) for number in first)
    dataset.decoded.clear()
    assert (dataset.mean, dataset.std) == expected
    assert dataset.mean == dataset.mean
    assert dataset.decoded == {"train": 500}
    few = Grey(tmp_path, sizes=(3, 1))
    assert few.mean == pytest.approx([1 / 255] * 3)


def test_the_fingerprint_is_a_digest_of_the_contents(tmp_path):
    assert Grey(tmp_path).fingerprint() == digest(["train", "test"])


def test_what_takes_more_memory_goes_into_a_file_named_by_its_key(tmp_path):
    dataset = Grey(tmp_path, memory_gb=0)
    images = dataset.test().images
    assert isinstance(images, StoredImages)
    assert np.array_equal(images[:], Grey(tmp_path).test().images[:])
    assert (tmp_path / f"grey-test-{decoded._DECODING}.images").is_file()


def test_a_file_that_was_decoded_to_other_pixels_is_not_taken(tmp_path, monkeypatch):
    for version, times in ((1, 7), (1, 0), (2, 7)):
        monkeypatch.setattr(decoded, "_DECODING", version)
        dataset = Grey(tmp_path, memory_gb=0)
        dataset.test()
        assert dataset.decoded["test"] == times
