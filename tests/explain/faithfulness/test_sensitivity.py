"""Max-sensitivity against Captum's."""

import numpy as np
import pytest
import torch
from torch import Tensor

from augcam.errors import UserError
from augcam.explain.faithfulness.maps import cleaned
from augcam.explain.faithfulness.sensitivity import max_sensitivity
from tests.explain.faithfulness.made import pictures


def moved(explain, images: Tensor, **numbers) -> np.ndarray:
    """Max-sensitivity of the one map of each image that `explain` returns."""
    originals = {"map": cleaned(explain(images))}
    shown = max_sensitivity(lambda noisy: {"map": explain(noisy)}, images, originals, **numbers)
    return shown["map"]


class TestMaxSensitivity:
    def test_equals_captum_on_the_same_noise(self):
        metrics = pytest.importorskip("captum.metrics")
        images, seen = pictures(4), []

        def explain(shown: Tensor) -> Tensor:
            seen.append(shown)
            return shown.square().sum(1) + shown[:, 0]

        ours = moved(explain, images, radius=0.3, samples=4)
        original, *noisy = seen
        assert torch.equal(original, images)
        assert len(noisy) == 4
        assert all(0.29 < (shown - images).abs().max() <= 0.3 + 1e-6 for shown in noisy)
        theirs = metrics.sensitivity_max(
            lambda shown: (shown[0].square().sum(1) + shown[0][:, 0],),
            (images,),
            perturb_func=lambda _: (torch.stack(noisy, dim=1).flatten(0, 1),),
            n_perturb_samples=4,
        )
        assert ours == pytest.approx(theirs.numpy(), rel=1e-5)

    def test_a_map_that_ignores_the_image_has_none(self):
        fixed = torch.rand(3, 4, 4)
        assert moved(lambda _: fixed, pictures()).tolist() == [0, 0, 0]

    def test_a_degenerate_map_has_no_value(self):
        def explain(shown):
            maps = shown[:, 0].clone()
            maps[1] = 0
            return maps

        found = moved(explain, pictures())
        assert np.isnan(found).tolist() == [False, True, False]

    def test_repeats_and_grows_with_the_radius(self):
        def explain(shown):
            return shown.square().sum(1)

        small, again, large = (
            moved(explain, pictures(), radius=radius, seed=1) for radius in (0.1, 0.1, 1)
        )
        assert np.array_equal(small, again)
        assert (large > small).all()

    @pytest.mark.parametrize("wrong", [{"radius": 0.0}, {"samples": 0}])
    def test_wrong_numbers(self, wrong):
        with pytest.raises(UserError, match="must be positive"):
            moved(lambda shown: shown[:, 0], pictures(), **wrong)
