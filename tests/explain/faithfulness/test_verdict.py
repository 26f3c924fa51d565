"""The verdict on the maps: which points, which names pixels, which are not to be believed."""

import io

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from augcam.explain.faithfulness.measure import Measured
from augcam.explain.faithfulness.section import faithfulness_section, means_table
from augcam.explain.faithfulness.verdict import compare, independent_of_weights, praises, verdict
from augcam.viz.page import Table

POINTING, ROAD, SANITY = "localisation_pointing", "road", "sanity_spearman"


def measured(seed=0, images=100, means=None, sanity=None, spread=0.2, centre=0.0, methods=4):
    """Maps of `methods` methods at four layers, each mean 0 unless `means` has it, and baselines.

    Every image has a difficulty that all its values share, as images do.
    """
    random = np.random.default_rng(seed)
    found = []
    for measure in (POINTING, ROAD):
        image = random.normal(0, 1, images)

        def draw(mean=0.0, image=image):
            return image + random.normal(mean, spread, images)

        for method in "abcdefghij"[:methods]:
            for layer in ("layer1", "layer2", "layer3", "layer4"):
                mean = (means or {}).get((method, layer, measure), 0.0)
                found.append(Measured(method, layer, measure, draw(mean), draw(), 0))
        for name, mean in (("centre", centre), ("edge", 0.0)):
            found.append(Measured(name, "", measure, draw(mean), None, 0))
    for (method, layer), mean in (sanity or {}).items():
        values = random.normal(mean, 0.05, images)
        found.append(Measured(method, layer, SANITY, values, None, 0))
    return found


def text(rows) -> str:
    return " ".join(sentence.text for sentence in verdict(rows))


@pytest.mark.parametrize("centre", [0.0, -5.0])
def test_noise_is_praised_on_at_most_one_page_in_twenty(centre):
    """The second case leaves the random map alone to beat, where most is to be won by luck."""
    pages = 60
    hits = 0
    for seed in range(pages):
        rows = [m for m in measured(seed, centre=centre) if centre == 0 or m.method != "edge"]
        hits += praises(rows, seed)
    # More would come once in a thousand if one page in twenty is the rate.
    assert hits <= stats.binom.ppf(0.999, pages, 0.05)


def test_one_map_that_beats_every_other_is_the_best():
    rows = measured(means={("a", "layer4", POINTING): 0.5})
    assert "a layer4 points at the object best: " in text(rows)
    assert "No map names the pixels" in text(rows)
    found = compare(rows)[POINTING]
    assert found.better == [("a", "layer4")]
    assert found.has_one_best


def test_maps_that_cannot_be_told_apart_are_listed_together():
    rows = measured(
        means={("a", "layer4", ROAD): 0.5, ("b", "layer4", ROAD): 0.5, ("c", "layer1", ROAD): 0.2}
    )
    assert not compare(rows)[ROAD].has_one_best
    assert set(compare(rows)[ROAD].leaders) == {("a", "layer4"), ("b", "layer4")}
    words = text(rows)
    assert "name the pixels that the answer rests on better than maps that know nothing" in words
    assert "best:" not in words
    assert "which of them is best, 100 images do not show" in words
    assert "Behind, but better than maps that know nothing: c layer1." in words


def test_equal_maps_share_the_first_place():
    rows = measured(means={("a", "layer4", ROAD): 0.5})
    (a,) = (m for m in rows if (m.method, m.layer, m.measure) == ("a", "layer4", ROAD))
    assert a.random is not None
    rows.append(Measured("twin", "layer4", ROAD, a.values.copy(), a.random.copy(), 0))
    assert set(compare(rows)[ROAD].leaders) == {("a", "layer4"), ("twin", "layer4")}


def test_sixteen_equally_good_maps_have_no_best_one():
    means = {
        (m, f"layer{layer}", measure): 1.0
        for m in "abcd" for layer in range(1, 5) for measure in (POINTING, ROAD)
    }  # fmt: skip
    pages = 40
    hits = sum(
        any(found.has_one_best for found in compare(measured(seed, means=means), seed).values())
        for seed in range(pages)
    )
    assert hits / pages <= 0.05


def test_better_than_its_random_map_but_not_than_the_centre_is_no_praise():
    rows = measured(means={("a", "layer4", ROAD): 0.5}, centre=0.5)
    assert not praises(rows)
    assert "Not measurably" not in text(rows)  # nothing was better: one sentence says so of all
    assert "No map names the pixels" in text(rows)


def test_a_map_that_survives_random_weights_is_not_praised():
    means = {("a", "layer4", ROAD): 0.5, ("b", "layer1", ROAD): 0.9}
    rows = measured(means=means, sanity={("a", "layer4"): 0.1, ("b", "layer1"): 0.6})
    assert independent_of_weights(rows) == [("b", "layer1")]
    assert "a layer4 names the pixels that the answer rests on best" in text(rows)
    assert "Not to be believed: b layer1" in text(rows)
    # A mean at the limit is not above it.
    at_limit = measured(means=means, sanity={("b", "layer1"): 0.3})
    assert "Not to be believed" not in text(at_limit)


def test_undefined_values_leave_their_images_out():
    rows = measured(means={("a", "layer4", ROAD): 0.5})
    (a,) = (m for m in rows if (m.method, m.layer, m.measure) == ("a", "layer4", ROAD))
    a.values[:30] = np.nan
    assert praises(rows)
    a.values[:] = np.nan
    assert not praises(rows)


def test_the_picture_needs_both_of_its_axes(tmp_path):
    section = faithfulness_section(measured(), 100, "mosaics", tmp_path / "truth.png")
    assert any(getattr(block, "path", None) == tmp_path / "truth.png" for block in section.blocks)
    assert (tmp_path / "truth.png").read_bytes().startswith(b"\x89PNG")
    one = [m for m in measured() if m.measure != ROAD]
    section = faithfulness_section(one, 100, "mosaics", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    assert not any(hasattr(block, "path") for block in section.blocks)


def test_ten_methods_have_markers_enough(tmp_path):
    section = faithfulness_section(measured(methods=10), 100, "mosaics", tmp_path / "truth.png")
    assert (tmp_path / "truth.png").is_file()
    assert section.blocks


def test_the_table_says_what_was_not_measured_and_how_many_images_are_left(tmp_path):
    rows = measured(sanity={("a", "layer4"): 0.1, ("b", "layer1"): 0.2})
    rows[-1].values[:3] = np.nan  # three maps said nothing
    section = faithfulness_section(rows, 100, "mosaics", tmp_path / "truth.png")
    tables = [block for block in section.blocks if isinstance(block, Table)]
    table = next(table for table in tables if table.columns[-1].startswith(SANITY))
    cells = {line[0]: line[-1] for line in table.rows}
    assert cells["c layer1"] == "-"
    assert cells["centre"] == "-"
    assert cells["b layer1"].endswith("(n=97)")
    assert "n=" not in cells["a layer4"]


def test_the_terminal_s_table_fits_eighty_columns():
    rows = [
        Measured("gradcam++", layer, measure, np.ones(3), None, 0)
        for layer in ("layer1", "layer4")
        for measure in (
            POINTING, "localisation_energy", "insertion", "deletion", ROAD, "max_sensitivity",
            SANITY, "concentration",
        )
    ]  # fmt: skip
    console = Console(width=80, file=io.StringIO())
    console.print(means_table(rows))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("gradcam++ layer1")
    assert lines[1].count("1.00") == 8


def test_a_page_opens_with_three_sentences_at_most():
    """Here every sentence that there is: leaders and followers in both questions, and a distrust."""
    means = {("a", "layer4", POINTING): 1.0, ("b", "layer4", POINTING): 0.5,
             ("a", "layer4", ROAD): 1.0, ("b", "layer4", ROAD): 0.5}  # fmt: skip
    found = verdict(measured(means=means, sanity={("c", "layer1"): 0.9}))
    assert len(found) > 3
    assert [one.text.split(",")[0][:10] for one in found if one.leads] == [
        "a layer4 p", "a layer4 n", "Not to be ",
    ]  # fmt: skip
