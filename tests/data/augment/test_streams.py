"""The streams of a batch are those of its samples, number by number."""

import numpy as np
import pytest

from augcam.data.augment.streams import BatchStreams, SplitMix, pcg_state

KEYS = np.random.default_rng(5).integers(0, 2**64, 40, np.uint64)
INCREMENT = np.random.PCG64(0).state["state"]["inc"]


def python_streams() -> list[SplitMix]:
    streams = []
    for key in KEYS.tolist():
        streams.append(SplitMix())
        streams[-1].position = key
    return streams


def numpy_streams() -> list[np.random.Generator]:
    generators = []
    for key in KEYS.tolist():
        generator = np.random.Generator(np.random.PCG64(0))
        state = generator.bit_generator.state
        high, low = pcg_state(key)
        state["state"]["state"] = high << 64 | low
        generator.bit_generator.state = state
        generators.append(generator)
    return generators


def test_pythons_numbers_are_drawn_by_those_rows_that_draw():
    batch, samples = BatchStreams(KEYS, INCREMENT), python_streams()
    rows = np.arange(len(KEYS))
    for drawing in (rows, rows[::3], rows[1::2], rows):
        assert batch.random(drawing).tolist() == [samples[r].random() for r in drawing]
        for n in (1, 2, 9, 32, 33, 1000):
            assert batch.below(drawing, n).tolist() == [samples[r].randrange(n) for r in drawing]


@pytest.mark.parametrize("span", [1, 2, 7, 2**16, 2**31 + 1, 2**32 - 1])
def test_numpys_integers_are_drawn_too(span):
    batch, samples = BatchStreams(KEYS, INCREMENT), numpy_streams()
    rows = np.arange(len(KEYS))
    for drawing in (rows, rows[::3], rows[1::2], rows):
        expected = [samples[r].integers(3, 3 + span) for r in drawing]
        assert batch.integers(drawing, 3, 3 + span).tolist() == expected


def test_each_row_may_have_a_limit_of_its_own():
    batch, samples = BatchStreams(KEYS, INCREMENT), numpy_streams()
    rows = np.arange(len(KEYS))
    for _ in range(5):
        expected = [samples[r].integers(0, r + 1) for r in rows]
        assert batch.integers(rows, 0, rows + 1).tolist() == expected
