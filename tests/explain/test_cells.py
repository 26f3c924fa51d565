"""The layouts that a layer's output comes in."""

import pytest
import torch

from augcam.explain.cells import as_cells


@pytest.mark.parametrize(
    ("shape", "size", "prefix", "cells"),
    [
        ((2, 8, 4, 4), (32, 32), None, (2, 8, 4, 4)),  # channels first
        ((2, 4, 4, 8), (32, 32), None, (2, 8, 4, 4)),  # channels last
        ((2, 8, 3, 5), (48, 80), None, (2, 8, 3, 5)),
        ((2, 197, 192), (224, 224), None, (2, 192, 14, 14)),  # a class token
        ((2, 196, 192), (224, 224), None, (2, 192, 14, 14)),
        ((2, 201, 192), (224, 224), 5, (2, 192, 14, 14)),  # four registers beside it
        ((2, 9, 192), (32, 32), 5, (2, 192, 2, 2)),  # not 3x3 with no class token
        ((2, 16, 24), (32, 128), None, (2, 24, 2, 8)),  # not 4x4
        ((2, 7, 24), (32, 64), 1, None),  # six tokens are no 1:2 grid
        ((2, 10), (32, 32), None, None),
    ],
)  # fmt: skip
def test_layouts(shape, size, prefix, cells):
    output = as_cells(torch.zeros(shape), size, prefix)
    assert (None if output is None else tuple(output.shape)) == cells


def test_tokens_are_laid_out_row_by_row():
    tokens = torch.arange(5.0)[None, :, None]  # the class token is 0
    assert as_cells(tokens, (32, 32), None).tolist() == [[[[1, 2], [3, 4]]]]
