"""What is called a shortcut, of effects as they may be found."""

import numpy as np
import pytest

from augcam.audit.interventions import Effect, Patch, Region
from augcam.audit.verdict import decide

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
