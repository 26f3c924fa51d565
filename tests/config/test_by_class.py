"""Which transforms are kept from which classes, and the words for it."""

import pytest

from augcam.config.by_class import sparing, sparing_words
from augcam.config.compose import compose
from augcam.config.schema import validate

CLASSES = ("bird", "cat", "dog")
FLIP, TURN = {"_target_": "albumentations.HorizontalFlip", "p": 0.5}, {"limit": 15}


def test_what_the_baseline_has_too_stays_as_it_is():
    changed = sparing({"flip": FLIP, "rotate": TURN}, {"flip": FLIP}, ["cat"], CLASSES)
    assert changed == {"rotate": TURN | {"except": ["cat"]}}
    # The same transform in another form differs.
    changed = sparing({"rotate": TURN}, {"rotate": {"limit": 5}}, ["cat"], CLASSES)
    assert changed == {"rotate": TURN | {"except": ["cat"]}}
    assert sparing({"flip": FLIP}, {"flip": FLIP}, ["cat"], CLASSES) == {}


@pytest.mark.parametrize(
    ("step", "spared", "expected"),
    [
        (TURN | {"except": ["dog"]}, ["bird"], TURN | {"except": ["bird", "dog"]}),
        (TURN | {"classes": ["bird", "cat"]}, ["cat"], TURN | {"classes": ["bird"]}),
        (TURN | {"classes": ["cat"]}, ["cat"], None),  # nobody is left for it
        (TURN | {"except": ["bird"]}, ["cat", "dog"], None),
        (TURN | {"classes": "cat"}, ["dog"], "as it is"),  # it never met a dog
        (None, ["cat"], "as it is"),
    ],
)
def test_what_is_kept_to_some_classes_already(step, spared, expected):
    changed = sparing({"rotate": step}, {}, spared, CLASSES)
    assert changed == ({} if expected == "as it is" else {"rotate": expected})


def test_the_words_compose_to_what_they_stand_for():
    names = ["cat", "a b", "it's", "7", "null", "x,y", "[z]", "back\\"]
    step = {"limit": 15, "except": names}
    words = sparing_words({"rotate": step, "flip": None})
    assert words[1] == "~aug.flip"
    config = validate(compose(["aug=rotate", words[0]]))
    assert config.aug["rotate"]["except"] == names
    assert sparing_words({"rotate": {"classes": ["cat", "dog"]}}) == [
        "aug.rotate.classes=[cat,dog]"
    ]
