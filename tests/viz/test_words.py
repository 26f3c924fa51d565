"""Numbers as people write them."""

import pytest

from augcam.statistics.intervals import Estimate
from augcam.viz import words


def test_signs_are_typographic_and_zero_has_none():
    assert [words.signed(v, 1) for v in (1.26, -0.84, 0.04, -0.04)] == [
        "+1.3",
        "−0.8",
        "0.0",
        "0.0",
    ]
    assert words.points(-0.0312) == "−3.1"
    assert words.interval(-0.6, 2) == "−0.6 to +2.0"


def test_lists_end_with_and_and_say_how_many_they_leave_out():
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(list("abcdefgh"), most=3) == "a, b, c and 5 more"
    assert [words.plural(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]


@pytest.mark.parametrize(
    ("p", "text"), [(0.0009, "<0.001"), (0.001, "0.001"), (0.0999, "0.100"), (0.1, "0.10")]
)
def test_small_p_values_have_more_digits(p, text):
    assert words.p_value(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.46, "9.5 s"), (89.9, "89.9 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_durations_change_their_unit(seconds, text):
    assert words.duration(seconds) == text


def test_half_of_an_interval_stands_behind_the_mean_that_has_one():
    assert words.estimate(Estimate(0.934, 0.931, 0.937, 3, 0.001), 1, 100) == "93.4 ± 0.3"
    assert words.estimate(Estimate(-0.5, None, None, 1, None), 2) == "−0.50"
    assert words.percent(Estimate(0.934, None, None, 1, None)) == "93.4%"
