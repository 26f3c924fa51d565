"""Is a measure of a map right? Arithmetic by hand, other libraries, and exact repetition."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.faithfulness.baselines import centre_map, edge_map, shuffled
from augcam.explain.faithfulness.concentration import concentration
from augcam.explain.faithfulness.insertion import insertion_deletion
from augcam.explain.faithfulness.localisation import energy_share, mosaics, pointing_game
from augcam.explain.faithfulness.maps import Stream, stream
from augcam.explain.faithfulness.measure import BETTER, CHECKS, Measured, measure_faithfulness
from augcam.explain.faithfulness.randomisation import cascading_randomisation, similarity
from augcam.explain.faithfulness.road import impute, road
from augcam.explain.faithfulness.sensitivity import max_sensitivity
from augcam.statistics.paired import sign_flip_test


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny tensors are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def additive(images: Tensor) -> Tensor:
    """Class 0 scores the sum of the first channel, class 1 its negative."""
    total = images[:, 0].sum((1, 2))
    return torch.stack([total, -total], dim=1)


def recorder(predict=additive):
    """A `predict` that keeps what it was shown."""
    seen: list[Tensor] = []

    def recording(images: Tensor) -> Tensor:
        seen.append(images.clone())
        return predict(images)

    return recording, seen


def pictures(count=3, side=8, seed=0) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def sparse_maps(count=2, side=8, filled=4, seed=0) -> np.ndarray:
    """`filled` different positive values per map; every other pixel is 0."""
    generator = np.random.default_rng(seed)
    maps = np.zeros((count, side * side), np.float32)
    for one in maps:
        one[generator.choice(side * side, filled, replace=False)] = np.arange(1, filled + 1)
    return maps.reshape(count, side, side)


TEXTBOOK = torch.tensor([[0.4, 0.3], [0.2, 0.1]]).expand(1, 3, 2, 2)
FIRST = torch.tensor([0])


class TestInsertionDeletion:
    def test_additive_model_known_answer(self):
        found = insertion_deletion(
            additive, TEXTBOOK, TEXTBOOK[:, 0], FIRST, steps=4, baseline=torch.zeros(1, 3, 2, 2)
        )
        assert found.deletion == pytest.approx([0.375])
        assert found.insertion == pytest.approx([0.625])
        assert found.deletion_curve[0] == pytest.approx([1, 0.6, 0.3, 0.1, 0], abs=1e-6)
        assert found.insertion_curve[0] == pytest.approx([0, 0.4, 0.7, 0.9, 1], abs=1e-6)
        assert found.fractions == pytest.approx([0, 0.25, 0.5, 0.75, 1])

    def test_the_inverted_map_swaps_the_two_areas(self):
        found = insertion_deletion(
            additive, TEXTBOOK, -TEXTBOOK[:, 0], FIRST, steps=4, baseline=torch.zeros(1, 3, 2, 2)
        )
        assert found.deletion == pytest.approx([0.625])
        assert found.insertion == pytest.approx([0.375])

    def test_score_is_the_target_s(self):
        images = TEXTBOOK.repeat(2, 1, 1, 1)
        found = insertion_deletion(additive, images, images[:, 0], torch.tensor([0, 1]), steps=4)
        assert found.deletion == pytest.approx([0.375, -0.375])

    def test_insertion_starts_blurred_and_deletion_ends_at_the_mean(self):
        images, (predict, seen) = pictures(), recorder()
        found = insertion_deletion(predict, images, images[:, 0], torch.zeros(3).long(), steps=2)
        whole, empty, start = seen[:3]
        assert torch.equal(whole, images)
        assert not empty.any()
        # A blur keeps the mean of a channel and takes most of the variance of noise.
        assert torch.allclose(start.mean((2, 3)), images.mean((2, 3)), atol=1e-5)
        assert start.var() < 0.2 * images.var()
        assert found.insertion_curve[:, 0] == pytest.approx(additive(start)[:, 0].numpy())
        assert found.deletion_curve[:, -1] == pytest.approx([0, 0, 0])

    @pytest.mark.parametrize("steps", [1, 3, 10, 64])
    def test_each_step_removes_its_share_of_pixels(self, steps):
        images, (predict, seen) = pictures(1).abs() + 1, recorder()
        found = insertion_deletion(predict, images, sparse_maps(1), FIRST, steps=steps)
        deletions = seen[3 + steps - 1 :]
        removed = [int((shown[0, 0] == 0).sum()) for shown in deletions]
        assert len(removed) == steps - 1
        assert removed == [round(64 * step / steps) for step in range(1, steps)]
        assert found.fractions[[0, -1]].tolist() == [0, 1]

    def test_important_pixels_go_first_and_ties_follow_the_seed(self):
        images, maps = pictures(2).abs() + 1, sparse_maps(2, filled=4)
        removed = {}
        for seed in (1, 2):
            predict, seen = recorder()
            insertion_deletion(
                predict, images, maps, torch.zeros(2).long(), steps=8, seed=seed, batch=1
            )
            # 6 whole, empty and blurred; 14 insertions; then 8 pixels deleted from image 0.
            removed[seed] = seen[20][0, 0] == 0
            assert removed[seed].sum() == 8
            assert removed[seed][maps[0] > 0].all()
        assert not torch.equal(removed[1], removed[2])

    def test_batches_do_not_matter_and_two_calls_agree_to_the_bit(self):
        images, maps = pictures(5), sparse_maps(5)
        targets = torch.tensor([0, 1, 0, 1, 0])
        first, second, split = (
            insertion_deletion(additive, images, maps, targets, seed=3, batch=batch)
            for batch in (128, 128, 2)
        )
        for one, two, three in zip(first, second, split, strict=True):
            assert np.array_equal(one, two)
            assert one == pytest.approx(three, abs=1e-5)

    @pytest.mark.parametrize("level", [0.0, 0.3, float("nan"), float("inf")])
    def test_a_degenerate_map_is_ranked_like_a_random_one(self, level):
        images = pictures(200, side=4).abs()
        targets = torch.zeros(200).long()
        maps = torch.full((200, 4, 4), level)
        found = insertion_deletion(
            additive, images, maps, targets, steps=16, baseline=torch.zeros_like(images)
        )
        # In a random order the additive score falls in a straight line, on average.
        total = additive(images)[:, 0].numpy()
        assert (found.deletion / total).mean() == pytest.approx(0.5, abs=0.01)
        assert np.isfinite(found.insertion).all()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"steps": 0}, "steps=0: 1 to 64"),
            ({"steps": 65}, "steps=65"),
            ({"maps": np.zeros((3, 4, 4))}, "do not fit images"),
            ({"maps": np.zeros((3, 8))}, "maps have the shape"),
            ({"targets": torch.zeros(2).long()}, "one class index for each of the 3"),
            ({"baseline": torch.zeros(3, 3, 4, 4)}, "baseline has the shape"),
            ({"images": torch.zeros(3, 8, 8)}, "images have the shape"),
        ],
    )
    def test_wrong_requests(self, change, words):
        arguments = {
            "images": pictures(),
            "maps": np.zeros((3, 8, 8)),
            "targets": torch.zeros(3).long(),
        }
        with pytest.raises(UserError, match=words):
            insertion_deletion(additive, **(arguments | change))


class TestRoad:
    @pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize("shape", [(9, 9), (7, 12), (12, 5), (6, 2)])
    def test_imputed_pixels_are_the_weighted_mean_of_their_neighbours(self, shape, fraction):
        image = pictures(1, side=12)[:, :, : shape[0], : shape[1]]
        removed = np.random.default_rng(1).random((1, *shape)) < fraction
        removed[0, 0, 0] = False
        filled = impute(image, removed)
        assert torch.equal(filled[0][:, ~removed[0]], image[0][:, ~removed[0]])
        kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]])[None, None] / 12
        sums = F.conv2d(filled.transpose(0, 1), kernel, padding=1).transpose(0, 1)
        weights = F.conv2d(torch.ones(1, 1, *shape), kernel, padding=1)
        expected = (sums / weights)[0][:, removed[0]]
        assert torch.allclose(filled[0][:, removed[0]], expected, atol=1e-5)

    @pytest.mark.slow  # the library takes ten seconds to import
    @pytest.mark.filterwarnings("ignore:__array_wrap__")
    @pytest.mark.parametrize("fraction", [0.1, 0.29, 0.5, 0.77, 0.9])
    def test_imputation_equals_that_of_the_paper_s_authors(self, fraction):
        imputer = pytest.importorskip("pytorch_grad_cam.metrics.road").NoisyLinearImputer(noise=0)
        for height, width in ((9, 9), (7, 12), (12, 5), (6, 2)):
            image = pictures(1, side=12)[0, :, :height, :width]
            removed = np.random.default_rng(1).random((height, width)) < fraction
            removed[0, 0] = False
            removed[-1, -1] = True
            theirs = imputer(image, torch.from_numpy(~removed).float())
            ours = impute(image[None], removed[None])[0]
            assert torch.allclose(ours, theirs, atol=1e-5)

    def test_imputation_by_hand(self):
        # The middle of a 3x3 image: sides 1, 2, 3, 4 by 1/6 and corners 6 by 1/12 = 10/6 + 24/12.
        image = torch.tensor([[6.0, 1, 6], [2, 99, 3], [6, 4, 6]]).expand(1, 3, 3, 3)
        removed = np.zeros((1, 3, 3), bool)
        removed[0, 1, 1] = True
        assert impute(image, removed)[0, :, 1, 1].tolist() == pytest.approx([10 / 6 + 2] * 3)

    def test_nothing_left_is_refused(self):
        with pytest.raises(UserError, match="nothing is left"):
            impute(pictures(2), np.ones((2, 8, 8), bool))

    def test_removes_exactly_floor_p_n_pixels_of_a_map_of_zeros(self):
        side = 32
        maps = sparse_maps(2, side=side, filled=61)  # 94% of 1024 pixels are zero
        images, (predict, seen) = pictures(2, side=side), recorder()
        fractions = (0.01, 0.1, 0.29, 0.5, 0.9, 0.999)
        found = road(predict, images, maps, torch.zeros(2).long(), fractions=fractions)
        expected = [10, 102, 296, 512, 921, 1022]
        assert found.counts.tolist() == expected
        for shown, count in zip(seen, expected * 2, strict=True):
            assert (shown != images).any(1).sum((1, 2)).tolist() == [count, count]

    def test_a_fraction_means_its_decimal_value(self):
        # 0.29 * 100 is 28.999999999999996 in floating point.
        arguments = (pictures(1, side=10), sparse_maps(1, side=10), FIRST)
        assert road(additive, *arguments, fractions=(0.29,)).counts.tolist() == [29]

    def test_morf_takes_the_peak_and_lerf_spares_it(self):
        maps = sparse_maps(2, filled=6)
        images, (predict, seen) = pictures(2), recorder()
        road(predict, images, maps, torch.zeros(2).long(), fractions=(0.1,))
        morf, lerf = ((shown != images).any(1).numpy() for shown in seen)
        assert morf[maps > 0].all()  # floor(.1 * 64) = 6: exactly the six
        assert not lerf[maps > 0].any()

    def test_a_true_map_scores_above_its_inverse(self):
        # The score is the energy of noise in one corner; imputed pixels are smooth.
        images = pictures(20)
        truth = np.zeros((20, 8, 8))
        truth[:, :4, :4] = 1

        def predict(shown):
            return shown[:, 0, :4, :4].square().sum((1, 2))[:, None]

        targets = torch.zeros(20).long()
        assert road(predict, images, truth, targets).score.mean() > 1
        assert road(predict, images, -truth, targets).score.mean() < -1

    def test_constant_images_show_only_the_noise(self):
        images, (predict, seen) = torch.ones(4, 3, 16, 16), recorder()
        maps = np.random.default_rng(0).random((4, 16, 16))
        road(predict, images, maps, torch.zeros(4).long(), fractions=(0.75,), noise=0.01)
        noise = (seen[0] - 1)[seen[0] != 1]
        assert len(noise) == 4 * 3 * 192
        assert float(noise.std()) == pytest.approx(0.01, rel=0.1)
        assert float(noise.mean()) == pytest.approx(0, abs=0.001)

    def test_repeats_to_the_bit(self):
        images, maps = pictures(3), sparse_maps(3)
        arguments = (additive, images, maps, torch.zeros(3).long())
        first, second, other = (road(*arguments, seed=seed) for seed in (1, 1, 2))
        assert np.array_equal(first.morf, second.morf)
        assert np.array_equal(first.lerf, second.lerf)
        assert not np.array_equal(first.morf, other.morf)

    @pytest.mark.parametrize("fractions", [(), (0.0,), (0.5, 1.0)])
    def test_fractions_out_of_range(self, fractions):
        with pytest.raises(UserError, match="between 0 and 1"):
            road(additive, pictures(), sparse_maps(3), torch.zeros(3).long(), fractions=fractions)


class TestMaxSensitivity:
    def test_equals_captum_on_the_same_noise(self):
        metrics = pytest.importorskip("captum.metrics")
        images, seen = pictures(4), []

        def explain(shown: Tensor) -> Tensor:
            seen.append(shown)
            return shown.square().sum(1) + shown[:, 0]

        ours = max_sensitivity(explain, images, radius=0.3, samples=4)
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
        assert max_sensitivity(lambda _: fixed, pictures()).tolist() == [0, 0, 0]

    def test_a_degenerate_map_has_no_value(self):
        def explain(shown):
            maps = shown[:, 0].clone()
            maps[1] = 0
            return maps

        found = max_sensitivity(explain, pictures())
        assert np.isnan(found).tolist() == [False, True, False]

    def test_repeats_and_grows_with_the_radius(self):
        def explain(shown):
            return shown.square().sum(1)

        small, again, large = (
            max_sensitivity(explain, pictures(), radius=radius, seed=1) for radius in (0.1, 0.1, 1)
        )
        assert np.array_equal(small, again)
        assert (large > small).all()

    @pytest.mark.parametrize("wrong", [{"radius": 0.0}, {"samples": 0}])
    def test_wrong_numbers(self, wrong):
        with pytest.raises(UserError, match="must be positive"):
            max_sensitivity(lambda shown: shown[:, 0], pictures(), **wrong)


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


def gradient(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Input gradient times input: depends on every layer."""
    images = images.clone().requires_grad_()
    with torch.enable_grad():
        score = model(images).gather(1, targets[:, None]).sum()
        (slope,) = torch.autograd.grad(score, images)
    return {"input": (slope * images).sum(1).detach()}


class TestCascadingRandomisation:
    images = pictures(4)
    targets = torch.tensor([0, 1, 2, 3])

    def test_layers_fall_one_after_the_other_from_the_head(self):
        model, states = tiny(), []

        def explain(network, images, targets):
            states.append(copy.deepcopy(network.state_dict()))
            return gradient(network, images, targets)

        found = cascading_randomisation(model, explain, self.images, self.targets)
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

        cascading_randomisation(model, explain, self.images, self.targets, untrained=untrained)
        assert torch.equal(states[1]["fc.weight"], untrained.fc.weight)
        assert not torch.equal(states[1]["norm.weight"], untrained.norm.weight)
        last, expected = states[-1], untrained.state_dict()
        assert all(torch.equal(last[name], expected[name]) for name in expected)

    def test_an_untrained_network_of_another_architecture_is_refused(self):
        other = Tiny()
        other.fc = nn.Linear(4, 6)
        with pytest.raises(UserError, match="another architecture: its fc does not fit"):
            cascading_randomisation(tiny(), gradient, self.images, self.targets, untrained=other)

    def test_the_model_and_the_global_random_state_are_untouched(self):
        model = tiny()
        before = copy.deepcopy(model.state_dict())
        state = torch.get_rng_state()
        cascading_randomisation(model, gradient, self.images, self.targets)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert not model.training

    def test_a_map_that_ignores_the_network_does_not_change(self):
        found = cascading_randomisation(
            tiny(), lambda network, images, _: {"edge": images.mean(1)}, self.images, self.targets
        )
        assert found.similarity["edge"].spearman == pytest.approx(np.ones((3, 4)))
        assert found.similarity["edge"].ssim == pytest.approx(np.ones((3, 4)))

    def test_repeats_to_the_bit_and_follows_the_seed(self):
        first, second, other = (
            cascading_randomisation(
                tiny(), gradient, self.images, self.targets, seed=seed
            ).similarity["input"]
            for seed in (1, 1, 2)
        )
        assert np.array_equal(first.spearman, second.spearman)
        assert np.array_equal(first.ssim, second.ssim)
        assert not np.array_equal(first.spearman, other.spearman)

    def test_a_model_without_layers_is_refused(self):
        with pytest.raises(UserError, match="no layers with parameters"):
            cascading_randomisation(
                nn.Identity(), lambda *_: {"": self.images[:, 0]}, self.images, self.targets
            )


class TestLocalisation:
    maps = np.array([[[3.0, 1], [0, 0]], [[2, 2], [2, 0]], [[0, 0], [0, 0]], [[-1, -3], [2, 0]]])
    masks = np.array(
        [[[1, 0], [0, 0]], [[1, 0], [1, 0]], [[1, 0], [0, 0]], [[1, 1], [0, 0]]], dtype=bool
    )

    def test_pointing_game_by_hand(self):
        assert pointing_game(self.maps, self.masks) == pytest.approx([1, 2 / 3, 1 / 4, 0])

    def test_energy_share_by_hand(self):
        assert energy_share(self.maps, self.masks) == pytest.approx([3 / 4, 2 / 3, 1 / 4, 0])

    def test_only_negative_values_are_spread_evenly(self):
        maps = np.array([[[-1.0, -2], [-3, -4]]])
        assert energy_share(maps, self.masks[:1]) == pytest.approx([1 / 4])

    def test_tensors_and_nan(self):
        maps = torch.tensor(self.maps)
        maps[0, 1, 1] = float("nan")
        assert pointing_game(maps, torch.tensor(self.masks))[0] == pytest.approx(1 / 4)

    def test_an_empty_mask_or_another_shape_is_refused(self):
        with pytest.raises(UserError, match="mask of image 1 is empty"):
            pointing_game(self.maps[:2], np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]]))
        with pytest.raises(UserError, match="do not fit maps"):
            energy_share(self.maps, self.masks[:2])


class TestMosaics:
    labels = np.repeat(np.arange(6), 5)
    # Each image is filled with its own number: label = number // 5.
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 4, 6, 3))

    def test_four_classes_and_the_target_s_quadrant(self):
        found = mosaics(self.images, self.labels, count=50, seed=1)
        assert found.images.shape == (50, 8, 12, 3)
        assert found.images.dtype == np.uint8
        assert found.targets.dtype == np.int64
        for image, target, mask in zip(*found, strict=True):
            quadrants = [image[top : top + 4, left : left + 6] for top in (0, 4) for left in (0, 6)]
            classes = [int(quadrant[0, 0, 0]) // 5 for quadrant in quadrants]
            assert all(np.ptp(quadrant) == 0 for quadrant in quadrants)
            assert len(set(classes)) == 4
            assert mask.sum() == 24
            assert (image[mask] // 5 == target).all()
        places = [int(mask[:4].any()) * 2 + int(mask[:, :6].any()) for mask in found.masks]
        assert set(places) == {0, 1, 2, 3}
        assert set(found.targets.tolist()) == set(range(6))

    def test_follows_the_seed(self):
        first, second, other = (
            mosaics(self.images, self.labels, count=5, seed=seed) for seed in (1, 1, 2)
        )
        assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
        assert not np.array_equal(first.images, other.images)

    def test_wrong_requests(self):
        with pytest.raises(UserError, match="3 classes"):
            mosaics(self.images[:15], self.labels[:15], count=1)
        with pytest.raises(UserError, match="0 mosaics"):
            mosaics(self.images, self.labels, count=0)
        with pytest.raises(UserError, match="do not fit"):
            mosaics(self.images, self.labels[:3], count=1)


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


class TestBaselines:
    def test_centre_is_a_gaussian_about_the_middle(self):
        centre = centre_map(pictures(2, side=9))[1]
        assert np.unravel_index(centre.argmax(), centre.shape) == (4, 4)
        assert centre[4, 4] == 1
        # 2.25 pixels are one standard deviation: exp(-(2/2.25)^2 / 2) two pixels away.
        assert centre[4, 6] == pytest.approx(np.exp(-((2 / 2.25) ** 2) / 2))
        assert np.array_equal(centre, centre.T)

    def test_edge_equals_scikit_image(self):
        filters = pytest.importorskip("skimage.filters")
        images = pictures(2, side=12)
        for image, found in zip(images, edge_map(images), strict=True):
            grey = image.mean(0).numpy()
            expected = np.hypot(filters.sobel_h(grey), filters.sobel_v(grey))
            assert found == pytest.approx(expected / expected.max(), abs=1e-5)

    def test_a_flat_image_has_no_edges(self):
        assert not edge_map(torch.ones(1, 3, 4, 4)).any()

    def test_shuffled_keeps_the_cells_of_each_image_and_moves_them(self):
        maps = np.random.default_rng(0).random((5, 4, 6))
        found = shuffled(maps, seed=1)
        assert np.array_equal(np.sort(found.reshape(5, -1)), np.sort(maps.reshape(5, -1)))
        assert all((one != other).any() for one, other in zip(found, maps, strict=True))
        places = [np.argsort(one.ravel()) for one in shuffled(np.tile(maps[0], (5, 1, 1)), seed=1)]
        assert len({tuple(place) for place in places}) == 5  # an order of its own for each image

    def test_equal_maps_are_shuffled_alike_and_the_seed_decides(self):
        maps = np.random.default_rng(0).random((3, 4, 4))
        assert np.array_equal(shuffled(maps, 1), shuffled(maps.copy(), 1))
        assert not np.array_equal(shuffled(maps, 1), shuffled(maps, 2))


class TestStreams:
    def test_no_two_purposes_and_no_plain_seed_share_a_stream(self):
        draws = [stream(3, purpose).random() for purpose in Stream]
        draws += [np.random.default_rng(seed).random() for seed in range(10)]
        draws += [stream(3, Stream.WEIGHTS, number).random() for number in range(5)]
        assert len(set(draws)) == len(draws)


def bars(shown: Tensor) -> Tensor:
    """A network that looks at detail: what is left of the differences of neighbours."""
    sharp = (shown[:, :, :, 1:] - shown[:, :, :, :-1]).abs().mean((1, 2, 3))
    return torch.stack([sharp, -sharp], dim=1)


class TestRandomMaps:
    """Noise on a coarse grid says nothing, and must not look as if it did."""

    def measured(self, measure: str) -> Measured:
        images = pictures(60, side=16)
        noise = np.random.default_rng(5).normal(size=(60, 4, 4)).clip(min=0)
        found = measure_faithfulness(
            nn.Linear(1, 1), bars, {"noise": lambda *_: {"coarse": noise}}, images,
            torch.zeros(60).long(), checks=("insertion_deletion", "road"), batch=60,
        )  # fmt: skip
        return next(m for m in found if m.method == "noise" and m.measure == measure)

    @pytest.mark.parametrize("measure", ["insertion", "deletion", "road"])
    def test_coarse_noise_does_not_differ_from_its_own_random_map(self, measure):
        one = self.measured(measure)
        assert one.random is not None
        assert sign_flip_test((one.values - one.random)[:, None])[0] > 0.05

    def test_it_differs_from_independent_pixels(self):
        """What the baseline used to be."""
        one, images = self.measured("deletion"), pictures(60, side=16)
        fine = np.random.default_rng(6).random((60, 16, 16))
        old = insertion_deletion(bars, images, fine, torch.zeros(60).long(), batch=60)
        difference = one.values - old.deletion
        assert sign_flip_test(difference[:, None])[0] < 0.001


class Corner(nn.Module):
    """Sees only the upper left quarter: its class is the channel with the most energy there."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(3))
            self.fc.bias.zero_()

    def forward(self, images):
        half = images.shape[2] // 2
        return self.fc(images[:, :, :half, :half].square().mean((2, 3)))


def corner_explainers():
    """One truthful method with two layers of different sizes, and one that says nothing."""

    def truth(network, images, targets):
        cells = torch.zeros(len(images), 2, 2)
        cells[:, 0, 0] = 1
        full = images.gather(1, targets.view(-1, 1, 1, 1).expand(-1, 1, 8, 8))[:, 0].square()
        full[:, 4:] = 0
        full[:, :, 4:] = 0
        weight = network.fc.weight.diagonal()[targets].view(-1, 1, 1).detach()
        return {"coarse": cells, "fine": full * weight}

    return {"truth": truth, "nothing": lambda network, images, _: {"fine": images[:, 0] * 0}}


class TestMeasureFaithfulness:
    def call(self, **changes):
        model = Corner()
        images = pictures(12)
        with torch.no_grad():
            targets = model(images).argmax(1)
        masks = np.zeros((12, 8, 8), bool)
        masks[:, :4, :4] = True
        arguments = {
            "predict": lambda shown: model(shown).softmax(1),
            "explainers": corner_explainers(),
            "images": images,
            "targets": targets,
            "masks": masks,
            "steps": 4,
            "fractions": (0.25, 0.5),
            "samples": 2,
            "seed": 3,
        } | changes
        return measure_faithfulness(model, **arguments)

    def test_the_table(self):
        rows = [one.row(seed=3) for one in self.call()]
        makers = list(dict.fromkeys((row["method"], row["layer"]) for row in rows))
        assert makers == [
            ("truth", "coarse"),
            ("truth", "fine"),
            ("nothing", "fine"),
            ("centre", ""),
            ("edge", ""),
        ]
        measures = {row["measure"] for row in rows}
        assert measures == {
            *BETTER,
            "concentration",
            "sanity_spearman/fc",
            "sanity_ssim/fc",
        }
        assert len(rows) == len(makers) * len(measures)
        assert set(rows[0]) == {
            *("method", "layer", "measure", "mean", "low", "high", "n", "degenerate"),
            *("over_random", "over_random_low", "over_random_high"),
        }
        table = {(row["method"], row["layer"], row["measure"]): row for row in rows}

        for measure in ("insertion", "road", "localisation_pointing", "localisation_energy"):
            assert table["truth", "fine", measure]["over_random_low"] > 0, measure
        for measure in ("deletion", "road_morf"):
            assert table["truth", "fine", measure]["over_random_high"] < 0, measure
        assert table["truth", "coarse", "localisation_pointing"]["mean"] == 1
        assert table["truth", "fine", "localisation_energy"]["mean"] == 1
        # The mask is a quarter of the image: what a map without knowledge gets.
        assert table["nothing", "fine", "localisation_energy"]["mean"] == pytest.approx(1 / 4)
        assert table["nothing", "fine", "insertion"]["degenerate"] == 12
        assert table["truth", "fine", "insertion"]["degenerate"] == 0
        assert table["nothing", "fine", "max_sensitivity"]["n"] == 0
        assert table["truth", "coarse", "max_sensitivity"]["mean"] == 0
        # The centre stays where it is.
        assert table["centre", "", "max_sensitivity"]["mean"] == 0
        assert table["edge", "", "sanity_spearman"]["mean"] == pytest.approx(1)
        assert table["centre", "", "insertion"]["over_random"] is None
        assert table["nothing", "fine", "insertion"]["over_random"] == 0
        for row in rows:
            if row["n"]:
                assert row["low"] <= row["mean"] <= row["high"]

    def test_rows_equal_the_single_functions(self):
        rows = {(one.method, one.layer, one.measure): one for one in self.call()}
        model, images = Corner(), pictures(12)
        with torch.no_grad():
            targets = model(images).argmax(1)
        maps = corner_explainers()["truth"](model, images, targets)["fine"]

        def predict(shown):
            return model(shown).softmax(1)

        areas = insertion_deletion(predict, images, maps, targets, steps=4, seed=3)
        removal = road(predict, images, maps, targets, fractions=(0.25, 0.5), seed=3)
        moved = max_sensitivity(
            lambda shown: corner_explainers()["truth"](model, shown, targets)["fine"],
            images,
            samples=2,
            seed=3,
        )
        for measure, values in {
            "insertion": areas.insertion,
            "deletion": areas.deletion,
            "road": removal.score,
            "max_sensitivity": moved,
        }.items():
            assert rows["truth", "fine", measure].values == pytest.approx(values, rel=1e-6)

    def test_repeats_to_the_bit(self):
        first, second, other = (repr(self.call(seed=seed)) for seed in (3, 3, 4))
        assert first == second
        assert first != other

    def test_batches_do_not_matter(self):
        for one, two in zip(self.call(), self.call(batch=5), strict=True):
            assert one.values == pytest.approx(two.values, abs=1e-6, nan_ok=True)
            assert (one.random is None) == (two.random is None)
            if one.random is not None and two.random is not None:
                assert one.random == pytest.approx(two.random, abs=1e-6)

    @pytest.mark.parametrize("checks", [None, *[(check,) for check in CHECKS]])
    def test_progress_ends_at_the_work_foretold(self, checks):
        calls: list[tuple[int, int]] = []
        self.call(checks=checks, progress=lambda done, total: calls.append((done, total)), batch=5)
        totals = {total for _, total in calls}
        assert len(totals) == 1
        assert all(one <= two for (one, _), (two, _) in itertools.pairwise(calls))
        assert calls[-1][0] == calls[-1][1]

    def test_without_masks_localisation_is_left_out(self):
        rows = self.call(masks=None)
        assert not any(one.measure.startswith("localisation") for one in rows)
        with pytest.raises(UserError, match="needs masks"):
            self.call(masks=None, checks=("localisation",))

    def test_only_the_chosen_checks_run(self):
        rows = self.call(checks=("localisation",), predict=None)
        assert {one.measure for one in rows} == {"localisation_pointing", "localisation_energy"}

    def test_wrong_requests(self):
        with pytest.raises(UserError, match="unknown checks: rode; there are concentration"):
            self.call(checks=("rode",))
        with pytest.raises(UserError, match="no explainers"):
            self.call(explainers={})
        with pytest.raises(UserError, match="one class index"):
            self.call(targets=torch.zeros(3).long())
