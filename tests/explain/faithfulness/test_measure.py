"""All measures in one table, and what coarse noise comes to in them."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.faithfulness.insertion import insertion_deletion
from augcam.explain.faithfulness.maps import cleaned
from augcam.explain.faithfulness.measure import BETTER, CHECKS, Measured, measure_faithfulness
from augcam.explain.faithfulness.road import road
from augcam.explain.faithfulness.sensitivity import max_sensitivity
from augcam.statistics.paired import sign_flip_test
from tests.explain.faithfulness.made import pictures, ranked


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
        old = insertion_deletion(bars, images, ranked(fine), torch.zeros(60).long(), batch=60)
        difference = one.values - old["map"].deletion
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
        model, untrained = Corner(), Corner()
        images = pictures(12)
        with torch.no_grad():
            untrained.fc.weight.normal_(generator=torch.Generator().manual_seed(0))
            targets = model(images).argmax(1)
        masks = np.zeros((12, 8, 8), bool)
        masks[:, :4, :4] = True
        arguments = {
            "predict": lambda shown: model(shown).softmax(1),
            "explainers": corner_explainers(),
            "images": images,
            "targets": targets,
            "masks": masks,
            "untrained": untrained,
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

        def explain(shown):
            return corner_explainers()["truth"](model, shown, targets)["fine"]

        def predict(shown):
            return model(shown).softmax(1)

        ranks = ranked(explain(images), seed=3)
        areas = insertion_deletion(predict, images, ranks, targets, steps=4)["map"]
        removal = road(predict, images, ranks, targets, fractions=(0.25, 0.5), seed=3)["map"]
        moved = max_sensitivity(
            lambda shown: {"map": explain(shown)},
            images,
            {"map": cleaned(explain(images))},
            samples=2,
            seed=3,
        )["map"]
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

    def test_sanity_needs_the_untrained_network(self):
        with pytest.raises(UserError, match="needs the untrained network"):
            self.call(untrained=None, checks=("sanity",))

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
