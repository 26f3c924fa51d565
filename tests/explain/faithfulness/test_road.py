"""ROAD: its authors' imputation, arithmetic by hand, and exact repetition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from augcam.errors import UserError
from augcam.explain.faithfulness.road import impute, road
from tests.explain.faithfulness.made import (
    FIRST,
    additive,
    pictures,
    ranked,
    recorder,
    sparse_maps,
)


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
        targets = torch.zeros(2).long()
        found = road(predict, images, ranked(maps), targets, fractions=fractions)["map"]
        expected = [10, 102, 296, 512, 921, 1022]
        assert found.counts.tolist() == expected
        for shown, count in zip(seen, expected * 2, strict=True):
            assert (shown != images).any(1).sum((1, 2)).tolist() == [count, count]

    def test_a_fraction_means_its_decimal_value(self):
        # 0.29 * 100 is 28.999999999999996 in floating point.
        arguments = (pictures(1, side=10), ranked(sparse_maps(1, side=10)), FIRST)
        assert road(additive, *arguments, fractions=(0.29,))["map"].counts.tolist() == [29]

    def test_morf_takes_the_peak_and_lerf_spares_it(self):
        maps = sparse_maps(2, filled=6)
        images, (predict, seen) = pictures(2), recorder()
        road(predict, images, ranked(maps), torch.zeros(2).long(), fractions=(0.1,))
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

        ranks = {"truth": ranked(truth)["map"], "inverse": ranked(-truth)["map"]}
        found = road(predict, images, ranks, torch.zeros(20).long())
        assert found["truth"].score.mean() > 1
        assert found["inverse"].score.mean() < -1

    def test_constant_images_show_only_the_noise(self):
        images, (predict, seen) = torch.ones(4, 3, 16, 16), recorder()
        maps = np.random.default_rng(0).random((4, 16, 16))
        targets = torch.zeros(4).long()
        road(predict, images, ranked(maps), targets, fractions=(0.75,), noise=0.01)
        noise = (seen[0] - 1)[seen[0] != 1]
        assert len(noise) == 4 * 3 * 192
        assert float(noise.std()) == pytest.approx(0.01, rel=0.1)
        assert float(noise.mean()) == pytest.approx(0, abs=0.001)

    def test_repeats_to_the_bit(self):
        images, maps = pictures(3), sparse_maps(3)
        arguments = (additive, images, ranked(maps), torch.zeros(3).long())
        first, second, other = (road(*arguments, seed=seed)["map"] for seed in (1, 1, 2))
        assert np.array_equal(first.morf, second.morf)
        assert np.array_equal(first.lerf, second.lerf)
        assert not np.array_equal(first.morf, other.morf)

    @pytest.mark.parametrize("fractions", [(), (0.0,), (0.5, 1.0)])
    def test_fractions_out_of_range(self, fractions):
        with pytest.raises(UserError, match="between 0 and 1"):
            road(
                additive,
                pictures(),
                ranked(sparse_maps(3)),
                torch.zeros(3).long(),
                fractions=fractions,
            )
