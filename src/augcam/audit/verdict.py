"""The decision for each class, and the rate at which it errs.

Only what moves predictions is called a shortcut. Every intervention is a test of "at most 20% of the
images of other classes become this class, beyond the matched control", and Holm corrects over all
classes and all interventions, so that on 95% of pages on which no intervention moves more than that
none is called one. Beyond the test a shortcut has to be small or the same everywhere:

- a *patch* at one place whose *average* over the class carries the class into other images too: a tag,
  a line, a watermark is the same in every image, an object is not; beyond 1/15 of the image it has to
  reach the edge, as objects that are alike overlap in the middle. Or a patch of at most 1/15 that is
  elsewhere in each image;
- a *property* of the whole image that gives the class away almost by itself: the neighbours of its
  typical images in that property are at least half-way from what chance makes them to being all of the
  class. Of ten equal classes that is 60% of them.

A class of which no intervention finds anything is still worth a *look* where its maps lie at the edge or
in one corner far more than those of the other classes do, and more than those of any network with
randomised weights. The factors were set on development networks, none of whose honest classes reached
them; bench/audit.py says how many honest classes are called so.

What moves predictions but is neither is *context*: it comes with the class in the data, as the sky with
planes, and whether to allow it is for people to decide.
"""

from dataclasses import dataclass
from typing import Literal

from augcam.audit.interventions import Patch
from augcam.audit.nuisance import Effect, GivesAway
from augcam.audit.places import Placement
from augcam.statistics import LEVEL

Verdict = Literal["no_sign", "look", "context", "shortcut", "undecided"]

# What moves, or lies in the middle, is a tag only up to this share of the image.
SMALL = 1 / 15

# What stays at one place is a tag only where its average carries the class, and never beyond this share:
# the average of half an image is still an object's colour at its usual place.
LARGEST_TAG = 1 / 6

# Setting the amplitude of each frequency hands on some of the object's own outline too.
NEVER_A_SHORTCUT = ("texture",)

# How far beyond chance, 0 to 1, the class's share among neighbours is where a property gives it away.
GIVES_AWAY = 0.5


# The evidence in a corner, or in the border, of a class that is worth a look: so many times the mean of
# the other classes. Significant alone would not do: classes differ in where their objects are.
_CORNER, _BORDER = 2.5, 2.0


# A part of which at least so much lies on the object, where its mask is known, is no shortcut.
_OBJECT = 0.5


@dataclass(frozen=True)
class PropertyEffect:
    """A property that gives a class away, and what setting it does."""

    name: str
    gives_away: GivesAway
    effect: Effect
    drop: float


@dataclass(frozen=True)
class Decision:
    """The verdict and what it rests on: a patch, a property, or neither."""

    verdict: Verdict
    patch: Patch | None
    found: PropertyEffect | None
    p: float
    reason: str


def is_tag(patch: Patch) -> bool:
    """Whether a patch is too much the same, or where it moves too small, to be the object."""
    if patch.averaged is None:
        return patch.area <= SMALL
    largest = LARGEST_TAG if patch.at_edge else SMALL
    return patch.area <= largest and patch.averaged >= patch.effect.follow_rate / 2


def apart(placement: Placement) -> str:
    """How the maps lie unlike those of other classes, in words; empty where they do not."""
    for name, share, others, factor in (
        (f"the {placement.which} corner", placement.corner, placement.corner_others, _CORNER),
        ("the border", placement.border, placement.border_others, _BORDER),
    ):
        key = "border" if name == "the border" else "corner"
        alone = placement.p[key] < LEVEL and placement.p_random[key] < LEVEL
        if alone and share >= factor * others:
            return (
                f"{share:.0%} of the evidence lies in {name}, and of other classes' {others:.0%}; no "
                "part and no property that was tried explains it"
            )
    return ""


def decide(
    patch: Patch | None,
    patch_p: float,
    properties: list[tuple[PropertyEffect, float]],
    placement: Placement | None = None,
    on_object: float | None = None,
) -> Decision:
    """The verdict on one class.

    Args:
        patch: what was found, and `patch_p` its p after Holm; 1 where there is none.
        properties: each with its p after Holm.
        placement: of its maps, where it has any.
        on_object: share of the patch that lies on the object; None where there are no masks.
    """
    if on_object is not None and on_object >= _OBJECT:
        patch, patch_p = None, 1.0  # it is where it should be, however small
    p = min([patch_p, *(adjusted for _, adjusted in properties)], default=1.0)
    moving = [(one, q) for one, q in properties if q < LEVEL]
    causes = [
        (one, q)
        for one, q in moving
        if one.gives_away.beyond_chance >= GIVES_AWAY and one.name not in NEVER_A_SHORTCUT
    ]
    best = max(causes, key=lambda pair: pair[0].effect.follow_rate, default=None)
    weaker = best is None or patch is None or patch.effect.follow_rate >= best[0].effect.follow_rate
    if patch is not None and patch_p < LEVEL and is_tag(patch) and weaker:
        return Decision("shortcut", patch, None, patch_p, "a small part carries the class")
    if best is not None:
        return Decision("shortcut", None, best[0], best[1], "a property carries the class")
    if moving:
        found, q = max(moving, key=lambda pair: pair[0].effect.follow_rate)
        return Decision("context", None, found, q, "a property moves the prediction")
    if placement is not None and (reason := apart(placement)):
        return Decision("look", None, None, p, reason)
    if patch is not None and patch_p < LEVEL:
        return Decision("no_sign", None, None, patch_p, "what carries the class varies")
    return Decision("no_sign", None, None, p, "nothing that was tried moves the prediction")
