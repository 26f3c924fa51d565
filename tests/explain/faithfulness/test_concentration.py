"""The Gini index of a map."""

import numpy as np
import pytest

from augcam.explain.faithfulness.concentration import concentration


class TestConcentration:
    def test_by_hand(self):
        maps = np.array(
            [
                [[0, 0], [0, 5]],  # one pixel: 1
                [[0, 7], [7, 0]],  # half the pixels: (1 - 1/2) * 4/3
                [[1, 2], [3, 4]],  # Gini 1/4, times 4/3
                [[2, 2], [2, 2]],  # even: 0
                [[0, -1], [-5, 0]],  # no positive mass: 0
                [[1, np.inf], [0, 0]],
            ]
        )
        assert concentration(maps) == pytest.approx([1, 2 / 3, 1 / 3, 0, 0, 0])

    def test_equals_the_mean_difference_over_all_pairs(self):
        values = np.random.default_rng(0).random(30)
        pairs = np.abs(np.subtract(*np.meshgrid(values, values))).mean()
        expected = pairs / (2 * values.mean()) * 30 / 29
        assert concentration(values.reshape(1, 5, 6)) == pytest.approx([expected])
