"""Random streams of the measures."""

import numpy as np

from augcam.explain.faithfulness.maps import Stream, stream


class TestStreams:
    def test_no_two_purposes_and_no_plain_seed_share_a_stream(self):
        draws = [stream(3, purpose).random() for purpose in Stream]
        draws += [np.random.default_rng(seed).random() for seed in range(10)]
        draws += [stream(3, Stream.WEIGHTS, number).random() for number in range(5)]
        assert len(set(draws)) == len(draws)
