"""The planted cues of bench/audit.py: each is where it says it is, and the same every time."""

import sys

import numpy as np
import pytest

from augcam.data.datasets.shapes import draw
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import _planted
import audit
from _planted import CUES, LEFT_OUT, Design


@pytest.mark.parametrize("name", sorted(CUES))
def test_a_cue_is_drawn_the_same_for_the_same_image_and_changes_only_its_box(name):
    images, _, masks = draw("train", seed=0, size=1)
    first, box = CUES[name].draw(images[0], ~masks[0], 9, np.random.default_rng(1))
    again, _ = CUES[name].draw(images[0], ~masks[0], 9, np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    changed = (first != images[0]).any(-1)
    assert changed.any()
    if CUES[name].family == "property":
        assert box is None
    else:
        top, left, bottom, right = box
        changed[top:bottom, left:right] = False
        assert not changed.any()


def test_one_class_carries_the_cue_in_its_share_of_images_and_no_other_class_does():
    design = Design("shapes", 3, "one", "tag", 0.5)
    images, boxes = _planted.planted(design, "train", 1000)
    carries = np.array([box is not None for box in boxes])
    assert not carries[images.labels != design.target].any()
    # 100 coins: four standard deviations are 20.
    assert 30 <= carries.sum() <= 70


def test_a_distractor_is_on_all_classes_alike():
    images, boxes = _planted.planted(Design("shapes", 3, "distractor", "tag", 0.5), "train", 1000)
    carries = np.array([box is not None for box in boxes])
    assert all(30 <= carries[images.labels == label].sum() <= 70 for label in range(10))


def test_development_and_measurement_share_no_seed_and_one_cue_was_left_out():
    development, measurement = audit.designs("development"), audit.designs("measurement")
    assert not {d.seed for d in development} & {d.seed for d in measurement}
    assert LEFT_OUT not in {d.cue for d in development}
    assert LEFT_OUT in {d.cue for d in measurement}
    assert {d.cue for d in measurement if d.scope == "one"} == set(CUES)


def test_overlap_is_intersection_over_union():
    # 2x2 in common, 4 + 4x4 - 4 = 16 in all.
    assert audit.overlap((0, 0, 4, 4), (1, 1, 3, 3)) == 4 / 16
    assert audit.overlap((0, 0, 2, 2), (2, 2, 4, 4)) == 0
    assert audit.overlap((0, 0, 2, 2), None) == 0


def test_a_share_comes_with_its_exact_interval():
    # Of none in n, the upper end is 1 - (0.025)^(1/n): 1 - 0.025^0.05 = 16.8%.
    assert audit.share(0, 20) == "0/20, 0% (0% to 17%)"
