"""What is called a shortcut, of effects as they may be found."""

import numpy as np
import pytest
from scipy import stats

from augcam.audit.interventions import Effect, Patch, Region, effect
from augcam.audit.nuisance import GivesAway
from augcam.audit.places import Placement
from augcam.audit.verdict import PropertyEffect, decide

EFFECT = Effect(0.9, 0.02, 1e-9, 64)


def patch(area: float, averaged: float | None, at_edge: bool = True) -> Patch:
    """A part that carries the class into 90% of other images; it moves where it has no average."""
    fixed, place = averaged is not None, Region((0, 0, 4, 4))
    region = place if fixed else None
    return Patch(EFFECT, fixed, region, np.arange(8), [place], 1.0, averaged, area, at_edge)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        # The same in all images of the class, or not: a tag at its place, an object's middle.
        (patch(0.02, averaged=0.9), "shortcut"),
        (patch(0.02, averaged=0.1), "no_sign"),
        (patch(0.12, averaged=0.5), "shortcut"),
        (patch(0.12, averaged=0.4), "no_sign"),
        (patch(0.2, averaged=0.9), "no_sign"),
        # Objects that are alike overlap in the middle.
        (patch(0.06, averaged=0.9, at_edge=False), "shortcut"),
        (patch(0.07, averaged=0.9, at_edge=False), "no_sign"),
        # Elsewhere in each image: small, or it may be the object.
        (patch(0.06, averaged=None), "shortcut"),
        (patch(0.07, averaged=None), "no_sign"),
    ],
)
def test_a_part_is_a_shortcut_where_it_is_the_same_everywhere_or_moves_and_is_small(found, verdict):
    assert decide(found, 1e-6, []).verdict == verdict


def test_what_chance_explains_or_lies_on_the_object_is_none():
    tag = patch(0.02, averaged=0.9)
    assert decide(tag, 0.2, []).verdict == "no_sign"
    assert decide(tag, 1e-6, [], on_object=0.8).verdict == "no_sign"
    assert decide(tag, 1e-6, [], on_object=0.1).verdict == "shortcut"


def test_a_part_on_the_object_leaves_neither_verdict_nor_p():
    assert decide(patch(0.02, averaged=0.9), 1e-6, [], on_object=0.8).p == 1


def prop(name: str, share: float, chance: float = 0.2) -> tuple[PropertyEffect, float]:
    """A property that moves 90% of other images, with its p after Holm."""
    away = GivesAway(share, chance, 0.005, np.arange(8))
    return PropertyEffect(name, away, EFFECT, 0.5), 1e-6


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (prop("brightness", 0.65), "shortcut"),
        (prop("brightness", 0.55), "context"),
        # Of two classes: what chance alone gives the most typical quarter tells nothing.
        (prop("brightness", 0.7, chance=0.68), "context"),
        (prop("brightness", 0.9, chance=0.68), "shortcut"),
        (prop("texture", 0.95), "context"),
    ],
)
def test_a_property_is_a_shortcut_where_it_gives_the_class_away_far_beyond_chance(found, verdict):
    decision = decide(None, 1, [found])
    assert (decision.verdict, decision.found) == (verdict, found[0])
    assert decide(None, 1, [(found[0], 0.2)]).verdict == "no_sign"


def test_maps_apart_are_worth_a_look_where_nothing_moves_predictions():
    common = {"border": 0.01, "corner": 0.01, "alike": 0.01}
    apart = Placement(
        0.3, 0.25, 0.6, 0.1, "upper left", 0.9, 0.5, 0.3, 0.1, 0.4, common, common, 50
    )
    decision = decide(None, 1, [], apart)
    assert decision.verdict == "look"
    assert "60% of the evidence lies in the upper left corner" in decision.reason
    assert decide(None, 1, [prop("colour", 0.5)], apart).verdict == "context"


def test_an_effect_is_beyond_a_share_and_beyond_its_control():
    yes, no = np.ones(32, bool), np.zeros(32, bool)
    follows, control = np.concatenate([yes, no]), np.concatenate([no, no])
    plain = effect(follows, control)
    assert plain.p == pytest.approx(stats.binom.sf(31, 64, 0.2))
    assert (plain.follow_rate, plain.control_rate, plain.pairs) == (0.5, 0, 64)
    # A network that names the class for half of all that is changed: another half with the control.
    assert effect(follows, np.concatenate([no, yes])).p == pytest.approx(
        stats.binom.sf(31, 64, 0.5)
    )
    assert effect(no, no).p == 1
    assert effect(no[:0], no[:0]).p == 1
