"""Which images tell augmentations apart, and maps of different networks on one scale."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.report import looks
from augcam.report.load import Maps, read_study
from augcam.runs.run_folder import RunFolder
from tests.conftest import compose
from tests.report.make import make_sweep


def maps(probabilities: np.ndarray, raw: np.ndarray | None = None) -> Maps:
    n = len(probabilities)
    raw = np.ones((n, 4, 4)) if raw is None else raw
    return Maps(
        index=np.arange(n, dtype=np.int32),
        label=np.zeros(n, np.uint16),
        probabilities=np.asarray(probabilities, np.float16),
        map_true=raw.astype(np.float32),
    )


def test_a_report_fetches_no_test_images_though_its_runs_were_to(tmp_path, monkeypatch):
    asked = []

    def missing(self, root, split, download):
        asked.append(download)
        raise RuntimeError("not there")

    monkeypatch.setattr("torchvision.datasets.SVHN.__init__", missing)
    words = ("data=torchvision", "data.dataset=SVHN", f"data.root={tmp_path}", "data.download=true")
    run: Any = SimpleNamespace(config=validate(compose(words)), folder=RunFolder(tmp_path))
    with pytest.raises(UserError, match="not there"):
        looks.test_images(run)
    assert asked == [False]


def test_groups_that_agree_have_no_divergence():
    same = [maps(np.array([[0.7, 0.3], [0.5, 0.5]]))]
    np.testing.assert_allclose(looks.disagreement([same, same, same]), 0, atol=1e-9)


def test_groups_that_are_sure_of_different_classes_diverge_by_the_log_of_their_number():
    certain = np.eye(4)
    groups = [[maps(certain[[i, 0]])] for i in range(4)]
    np.testing.assert_allclose(looks.disagreement(groups), [2, 0], atol=1e-9)


def test_divergence_is_scipys_between_the_means_over_runs():
    random = np.random.default_rng(0)
    one, two, three = random.dirichlet(np.ones(5), (3, 20)).astype(np.float16)
    found = looks.disagreement([[maps(one), maps(two)], [maps(three)]])
    mean = (one.astype(float) + two.astype(float)) / 2
    expected = jensenshannon(mean, three.astype(float), base=2, axis=1) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_unit_is_the_median_peak_of_the_maps_that_say_something():
    raw = np.zeros((5, 4, 4))
    raw[:, 0, 0] = [1, 2, 9, 0, np.nan]
    raw[:, 3, 3] = -1
    assert looks.unit(maps(np.ones((5, 2)), raw)) == 2


def test_a_network_whose_maps_are_all_larger_looks_the_same():
    random = np.random.default_rng(0)
    raw = random.normal(size=(6, 4, 4))
    images = random.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    chosen = np.arange(6)
    one = looks.overlays(images, maps(np.ones((6, 2)), raw), chosen)
    seven = looks.overlays(images, maps(np.ones((6, 2)), 7 * raw), chosen)
    # The blend is rounded to whole steps.
    assert np.abs(one.astype(int) - seven).max() <= 1


def test_strong_evidence_is_red_weak_evidence_is_blue_and_none_is_grey():
    raw = np.zeros((4, 4, 4))
    raw[:, 1:3, 1:3] = np.array([1.0, 1.0, 0.1, -1.0])[:, None, None]
    images = np.full((4, 32, 32, 3), 128, np.uint8)
    images[:, :, :, 0] = 200
    drawn = looks.overlays(images, maps(np.ones((4, 2)), raw), np.arange(4))[:, 16, 16].astype(int)
    strong, _, weak, none = drawn
    assert strong[0] > strong[2] + 40
    assert weak[2] > strong[2] + 20
    assert np.ptp(none) <= 1


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looks")
    make_sweep(folder, ("none", "flip"), (1,), test_size=60, evaluated=20)
    return folder


def test_a_row_shows_the_image_then_every_network(sweep):
    study = read_study([sweep])
    runs = {label: several[0] for label, several in study.groups.items()}
    images = looks.test_images(runs["none"])
    first = runs["none"].maps
    chosen = np.array([3, 7])
    rows = looks.side_by_side(images, runs, chosen, study.classes)
    assert [len(row) for row in rows] == [3, 3]
    for place, row in zip(chosen, rows, strict=True):
        index = first.index[place]
        np.testing.assert_array_equal(row[0].picture, images.images[index])
        assert row[0].text == f"{study.classes[images.labels[index]]}\ntest {index}"
        assert row[0].right is None
        for cell, run in zip(row[1:], runs.values(), strict=True):
            said = run.predictions.predicted[index]
            assert cell.text.startswith(study.classes[said])
            assert cell.text.endswith(f"{run.maps.probabilities[place].max():.0%}")
            assert cell.right == (said == images.labels[index])


def test_other_images_than_the_runs_were_tested_on_are_refused(sweep):
    run = read_study([sweep]).groups["none"][0]
    data = run.config.data.model_copy(update={"seed": 5})
    config = run.config.model_copy(update={"data": data})
    with pytest.raises(UserError, match="other images"):
        looks.test_images(dataclasses.replace(run, config=config))
