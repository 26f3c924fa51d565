"""Maps against those of networks with untrained weights."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.faithfulness.randomisation import Cascade, cascading_randomisation, similarity
from tests.explain.faithfulness.made import (
    pictures,
)


class TestSimilarity:
    @pytest.mark.parametrize(("side", "window"), [(32, 7), (8, 7), (7, 7), (5, 5), (4, 3), (3, 3)])
    def test_equals_scikit_image_and_scipy(self, side, window):
        metrics = pytest.importorskip("skimage.metrics")
        generator = np.random.default_rng(side)
        one, two = generator.random((2, 4, side, side))
        two = (two + 2 * one).round(1)  # related, with ties
        found = similarity(one, two)
        for number, (first, second) in enumerate(zip(one, two, strict=True)):
            first = (first - first.min()) / np.ptp(first)
            second = (second - second.min()) / np.ptp(second)
            expected = metrics.structural_similarity(
                first, second, win_size=window, data_range=1.0, use_sample_covariance=False
            )
            assert found.ssim[number] == pytest.approx(expected)
            expected = stats.spearmanr(first.ravel(), second.ravel()).statistic
            assert found.spearman[number] == pytest.approx(expected)

    def test_the_same_map_at_another_scale_is_the_same(self):
        maps = np.random.default_rng(0).random((2, 8, 8))
        found = similarity(maps, 3 * maps + 1)
        assert found.spearman == pytest.approx([1, 1])
        assert found.ssim == pytest.approx([1, 1])

    def test_degenerate_maps_have_no_similarity(self):
        maps = np.random.default_rng(0).random((3, 8, 8))
        other = maps.copy()
        other[0] = 0
        other[2, 1, 1] = np.nan
        found = similarity(maps, other)
        assert np.isnan(found.spearman).tolist() == [True, False, True]
        assert np.isnan(found.ssim).tolist() == [True, False, True]

    def test_maps_of_one_row_do_not_fail(self):
        row = np.array([[[0.0, 1, 2]]])
        assert similarity(row, row).ssim == pytest.approx([1])

    def test_two_shapes_are_refused(self):
        with pytest.raises(UserError, match="cannot be compared"):
            similarity(np.ones((1, 2, 2)), np.ones((1, 3, 3)))


class Tiny(nn.Module):
    """Three stages with parameters, one without; a custom parameter in the first."""

    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

        def forward(self, images):
            return images * self.gain[:, None, None]

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(self.Gain(), nn.Conv2d(3, 4, 3, padding=1))
        self.relu = nn.ReLU()
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, images):
        return self.fc(self.relu(self.norm(self.stem(images))).mean((2, 3)))


def tiny() -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny().eval()
        model.norm.running_mean.normal_()
        model.norm.weight.data.uniform_(0.5, 2)
    return model


def random_tiny() -> Tiny:
    """As `tiny` before training: every weight is another."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Tiny().eval()
        for parameter in model.parameters():
            parameter.data.normal_()
    return model


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Input gradient times input: depends on every layer."""
    images = images.clone().requires_grad_()
    with torch.enable_grad():
        score = model(images).gather(1, targets[:, None]).sum()
        (slope,) = torch.autograd.grad(score, images)
    return {"input": (slope * images).sum(1).detach()}


IMAGES, TARGETS = pictures(4), torch.tensor([0, 1, 2, 3])


def fall(model: nn.Module, explain=gradient, untrained: nn.Module | None = None) -> Cascade:
    """`cascading_randomisation` of the maps of IMAGES, for TARGETS."""

    def maps(network: nn.Module) -> dict[str, Tensor]:
        return explain(network, IMAGES, TARGETS)

    return cascading_randomisation(model, maps, maps(model), untrained or random_tiny())


class TestCascadingRandomisation:
    def test_layers_fall_one_after_the_other_from_the_head(self):
        model, states = tiny(), []

        def explain(network, images, targets):
            states.append(copy.deepcopy(network.state_dict()))
            return gradient(network, images, targets)

        found = fall(model, explain)
        assert found.stages == ("fc", "norm", "stem")
        trained = states[0]
        changed = [
            {name.split(".")[0] for name in trained if not torch.equal(trained[name], state[name])}
            for state in states
        ]
        assert changed == [set(), {"fc"}, {"fc", "norm"}, {"fc", "norm", "stem"}]
        # What is random stays as it was at its stage.
        assert torch.equal(states[1]["fc.weight"], states[3]["fc.weight"])
        assert not torch.equal(trained["stem.0.gain"], states[3]["stem.0.gain"])
        assert found.similarity["input"].spearman.shape == (3, 4)
        assert found.similarity["input"].ssim.shape == (3, 4)
        assert np.abs(found.similarity["input"].spearman[-1]).mean() < 0.9

    def test_the_weights_are_those_of_the_untrained_network(self):
        model, untrained, states = tiny(), Tiny().eval(), []
        with torch.no_grad():
            untrained.fc.weight.normal_(0, 7)

        def explain(network, images, targets):
            states.append(copy.deepcopy(network.state_dict()))
            return gradient(network, images, targets)

        fall(model, explain, untrained=untrained)
        assert torch.equal(states[1]["fc.weight"], untrained.fc.weight)
        assert not torch.equal(states[1]["norm.weight"], untrained.norm.weight)
        last, expected = states[-1], untrained.state_dict()
        assert all(torch.equal(last[name], expected[name]) for name in expected)

    def test_an_untrained_network_of_another_architecture_is_refused(self):
        other = Tiny()
        other.fc = nn.Linear(4, 6)
        with pytest.raises(UserError, match="another architecture: its fc does not fit"):
            fall(tiny(), untrained=other)

    def test_the_model_and_the_global_random_state_are_untouched(self):
        model = tiny()
        before = copy.deepcopy(model.state_dict())
        state = torch.get_rng_state()
        fall(model)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert not model.training

    def test_a_map_that_ignores_the_network_does_not_change(self):
        found = fall(tiny(), lambda network, images, _: {"edge": images.mean(1)})
        assert found.similarity["edge"].spearman == pytest.approx(np.ones((3, 4)))
        assert found.similarity["edge"].ssim == pytest.approx(np.ones((3, 4)))

    def test_a_model_without_layers_is_refused(self):
        with pytest.raises(UserError, match="no layers with parameters"):
            fall(nn.Identity(), lambda *_: {"": IMAGES[:, 0]})
