"""An image beside its maps: cells are shown where they are coarse."""

import numpy as np
import pytest
import torch

from augcam.explain.rows import cells, explain_images, headings, is_coarse, row
from augcam.models.resnet import resnet


@pytest.fixture(scope="module")
def maps():
    torch.manual_seed(0)
    network = resnet(10, width=8, blocks=(1, 1, 1, 1)).eval()
    images = torch.randn(2, 3, 32, 32)
    return explain_images(network, images, torch.tensor([1, 2]), ["layer2", "layer3"], "gradcam")


def test_a_layer_whose_cells_are_four_pixels_wide_is_shown_twice(maps):
    assert [is_coarse(maps, layer, 32) for layer in ("layer2", "layer3")] == [False, True]
    columns = ["image", "layer2\n16x16", "layer3\n8x8", "layer3\ncells"]
    assert headings(["layer2", "layer3"], maps, 32) == columns
    shown = np.zeros((32, 32, 3), np.uint8)
    pictures = row(shown, maps, 1, ["layer2", "layer3"])
    assert [picture.shape for picture in pictures] == [(32, 32, 3)] * 4
    assert pictures[0] is shown


def test_cells_are_flat_and_their_peak_is_1():
    flat = cells(torch.tensor([[1.0, -2.0], [0.0, 4.0]]), (4, 4))
    assert np.array_equal(flat, np.kron([[0.25, 0], [0, 1]], np.ones((2, 2))))
    assert np.array_equal(cells(torch.full((2, 2), -1.0), (4, 4)), np.zeros((4, 4)))
