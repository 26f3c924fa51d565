"""Random streams of the measures."""

import numpy as np
import pytest
import torch

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import Stream, check_images, cleaned, stream


class TestStreams:
    def test_no_two_purposes_and_no_plain_seed_share_a_stream(self):
        draws = [stream(3, purpose).random() for purpose in Stream]
        draws += [np.random.default_rng(seed).random() for seed in range(10)]
        draws += [stream(3, Stream.IMAGES, number).random() for number in range(5)]
        assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("shape", [(3, 8), (3, 0, 8), (2, 3, 8, 8)])
def test_maps_of_another_shape_are_refused(shape):
    with pytest.raises(UserError, match="maps have the shape"):
        cleaned(np.zeros(shape))


@pytest.mark.parametrize(
    ("images", "targets", "words"),
    [
        ((3, 8, 8), 3, "images have the shape"),
        ((3, 3, 8, 8), 2, "one class index for each of the 3"),
    ],
)
def test_images_without_a_class_each_are_refused(images, targets, words):
    with pytest.raises(UserError, match=words):
        check_images(torch.zeros(images), torch.zeros(targets).long())
