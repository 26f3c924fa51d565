"""The six measures against scipy and scikit-learn, and which groups of maps moved."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import jaccard_score

from augcam.errors import UserError
from augcam.report.load import Maps
from augcam.report.map_distances import MEASURES, map_distances, map_shifts
from tests.report.studies import a_run


def some_maps(seed, n=20, cells=(4, 4), like=None):
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(n, *cells)).astype(np.float32)
    if like is not None:
        raw = 0.3 * raw + like
    probabilities = rng.dirichlet(np.ones(5), n).astype(np.float16)
    return Maps(np.arange(n), np.zeros(n), probabilities, raw)


def test_map_distances_against_scipy_and_scikit_learn():
    first, second = some_maps(0), some_maps(1)
    measured = map_distances(first, second)

    def heat(raw):
        positive = raw.ravel().clip(0).astype(float)
        return (positive - positive.min()) / (positive.max() - positive.min())

    pairs = [(heat(a), heat(b)) for a, b in zip(first.map_true, second.map_true, strict=True)]

    def normalized(p):
        return p.astype(float) / p.astype(float).sum(1, keepdims=True)

    p, q = normalized(first.probabilities), normalized(second.probabilities)
    kl = (stats.entropy(p, q, axis=1) + stats.entropy(q, p, axis=1)) / 2
    expected = {
        "mean_absolute": np.mean([np.abs(a - b) for a, b in pairs]),
        "mean_squared": np.mean([(a - b) ** 2 for a, b in pairs]),
        "pearson": np.mean([stats.pearsonr(a, b).statistic for a, b in pairs]),
        "spearman": np.mean([stats.spearmanr(a, b).statistic for a, b in pairs]),
        "overlap": np.mean([jaccard_score(a >= 0.5, b >= 0.5) for a, b in pairs]),
        "kl": kl.mean(),
        "left_out": 0,
    }
    assert measured == pytest.approx(expected, rel=1e-4)
    assert {*measured} == {*MEASURES, "left_out"}


def test_a_map_is_at_no_distance_from_itself_at_any_scale():
    first = some_maps(0)
    scaled = Maps(first.index, first.label, first.probabilities, 7 * first.map_true)
    assert map_distances(first, scaled) == pytest.approx(
        {"mean_absolute": 0, "mean_squared": 0, "pearson": 1, "spearman": 1, "overlap": 1, "kl": 0,
         "left_out": 0},
        abs=1e-6,
    )  # fmt: skip


def test_maps_that_say_nothing_are_left_out_and_counted():
    first, second = some_maps(0), some_maps(1)
    whole = map_distances(
        *(Maps(m.index[4:], m.label[4:], m.probabilities[4:], m.map_true[4:])
          for m in (first, second))
    )  # fmt: skip
    first.map_true[0], first.map_true[1], second.map_true[2:4] = 0, np.nan, -1
    measured = map_distances(first, second)
    assert measured["left_out"] == pytest.approx(4 / 20)
    for key in ("mean_absolute", "mean_squared", "pearson", "spearman", "overlap"):
        assert measured[key] == pytest.approx(whole[key])
    first = some_maps(0)
    first.map_true[:] = -1
    nothing = map_distances(first, second)
    assert math.isnan(nothing["pearson"])
    assert nothing["left_out"] == 1
    assert nothing["kl"] > 0  # of the predictions, which are there all the same


def test_certain_predictions_have_a_finite_divergence():
    first, second = some_maps(0), some_maps(0)
    first.probabilities[:] = [1, 0, 0, 0, 0]
    second.probabilities[:] = [0, 1, 0, 0, 0]
    # All but 4e-7 of the mass lies where the other has 1e-7.
    assert map_distances(first, second)["kl"] == pytest.approx(math.log(1e7), rel=1e-5)


def test_maps_of_other_images_or_layers_are_refused():
    first, other = some_maps(0), some_maps(1)
    moved = Maps(other.index + 1, other.label, other.probabilities, other.map_true)
    with pytest.raises(UserError, match="other images"):
        map_distances(first, moved)
    with pytest.raises(UserError, match="another layer"):
        map_distances(first, some_maps(1, cells=(8, 8)))


def group(label, seeds, first_seed, common, noise=0.3):
    """Evaluated runs whose maps are `common` and noise of their own."""
    answers = np.ones(3)
    runs = []
    for i in range(seeds):
        maps = some_maps(first_seed + i, n=len(common), like=common)
        maps.map_true[:] = common + noise / 0.3 * (maps.map_true - common)
        runs.append(a_run(answers, answers, i + 1, label, maps=maps))
    return runs


def scene(seed):
    return np.random.default_rng(seed).normal(size=(40, 4, 4)).astype(np.float32)


def test_the_numbers_are_means_over_pairs_of_runs():
    base, flip = group("none", 3, 1, scene(0)), group("flip", 2, 11, scene(0))
    unmeasured = [a_run([1], [1], 1, "crop")]
    shifts = map_shifts({"none": base, "flip": flip, "crop": unmeasured}, "none")
    assert shifts.pairs == 3
    assert set(shifts.shift) == {"flip"}
    for key in MEASURES:
        seeds = [
            map_distances(base[a].maps, base[b].maps)[key] for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        moved = [map_distances(a.maps, b.maps)[key] for a in base for b in flip]
        assert shifts.baseline_seeds[key] == pytest.approx(np.mean(seeds))
        assert shifts.shift["flip"][key] == pytest.approx(np.mean(moved))
        own = map_distances(flip[0].maps, flip[1].maps)[key]
        assert shifts.within["flip"][key] == pytest.approx(own)


def test_runs_with_maps_of_another_size_are_left_out_and_named():
    groups = {
        "none": group("none", 2, 1, scene(0)),
        "flip": group("flip", 2, 11, scene(0)),
        "wide": [a_run([1], [1], 1, "wide", maps=some_maps(0, n=40, cells=(8, 8)))],
    }
    shifts = map_shifts(groups, "none")
    assert shifts.other_size == ("wide",)
    del groups["wide"]
    alone = map_shifts(groups, "none")
    assert (shifts.shift, shifts.needed, alone.other_size) == (alone.shift, alone.needed, ())


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_below_four_seeds_there_is_no_verdict_however_far_the_maps_moved(seeds):
    base, flip = group("none", seeds, 1, scene(0)), group("flip", seeds, 11, scene(1))
    assert map_shifts({"none": base, "flip": flip}, "none").p == {}


def test_of_four_augmentations_with_five_seeds_the_one_that_moved_is_named():
    groups = {
        label: group(label, 5, 10 * i, scene(label == "cutout"))
        for i, label in enumerate(("none", "flip", "cutout", "rotate", "blur"))
    }
    p = map_shifts(groups, "none").p
    assert {label for label in p if p[label] < 0.05} == {"cutout"}


def test_maps_that_only_spread_wider_have_not_moved():
    # Eight scenes, noise four times as large: the mean distance to the baseline grows by that alone.
    for seed in range(8):
        base = group("none", 4, 100 * seed, scene(seed), noise=0.15)
        wide = group("flip", 4, 100 * seed + 50, scene(seed), noise=0.6)
        shifts = map_shifts({"none": base, "flip": wide}, "none")
        assert shifts.shift["flip"]["mean_squared"] > 2 * shifts.baseline_seeds["mean_squared"]
        assert shifts.p["flip"] > 0.05


def test_without_a_baseline_or_maps_there_is_nothing_to_say():
    base = group("none", 2, 1, scene(0))
    assert map_shifts({"none": base, "flip": base}, None) is None
    assert map_shifts({"none": base, "flip": [a_run([1], [1])]}, "none") is None
