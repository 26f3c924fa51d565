"""The verdict on the maps: which points, which names pixels, which are not to be believed."""

from augcam.explain.faithfulness.verdict import truth_section, verdict


def row(method, layer, measure, mean, spread=0.05):
    return {
        "method": method, "layer": layer, "measure": measure, "mean": mean,
        "low": mean - spread, "high": mean + spread,
    }  # fmt: skip


def rows(sanity_of_b: float):
    return [
        row("a", "layer4", "localisation_pointing", 0.9), row("a", "layer4", "road", 0.10),
        row("a", "layer4", "sanity_spearman", 0.1),
        row("b", "layer1", "localisation_pointing", 0.5), row("b", "layer1", "road", 0.30),
        row("b", "layer1", "sanity_spearman", sanity_of_b),
        row("random", "", "localisation_pointing", 0.25), row("random", "", "road", 0.0),
        row("centre", "", "localisation_pointing", 0.2), row("centre", "", "road", 0.15),
    ]  # fmt: skip


def test_the_best_is_named_beside_the_best_map_that_knows_nothing():
    said = " ".join(verdict(rows(sanity_of_b=0.0)))
    assert (
        "a layer4 points at the object best: 0.90 [0.85, 0.95], where the random map reaches 0.25"
        in said
    )
    assert (
        "b layer1 names the pixels that matter best: 0.30 [0.25, 0.35], where the centre map"
        in said
    )
    assert "No better than the centre map there: a layer4." in said
    assert "Not to be believed" not in said


def test_a_map_that_survives_random_weights_cannot_be_the_best():
    said = " ".join(verdict(rows(sanity_of_b=0.6)))
    assert "a layer4 names the pixels that matter best" in said
    assert "Not to be believed: b layer1" in said
    # Its interval reaches down to the limit: not clearly above it.
    assert "Not to be believed" not in " ".join(verdict(rows(sanity_of_b=0.33)))


def test_the_picture_needs_both_of_its_axes(tmp_path):
    both = truth_section(rows(0.6), 100, "mosaics", tmp_path / "truth.png")
    assert [path for path, _ in both.pictures] == [tmp_path / "truth.png"]
    assert (tmp_path / "truth.png").read_bytes().startswith(b"\x89PNG")
    one = truth_section(
        [r for r in rows(0.6) if r["measure"] != "road"], 100, "mosaics", tmp_path / "none.png"
    )
    assert not one.pictures
    assert not (tmp_path / "none.png").exists()
    assert "names the pixels" not in one.text


def test_the_table_has_a_row_for_each_map_and_says_what_was_not_measured(tmp_path):
    section = truth_section(rows(0.6), 100, "mosaics", tmp_path / "truth.png")
    assert [line[0] for line in section.rows] == ["a layer4", "b layer1", "random", "centre"]
    assert [line[-1] for line in section.rows][-2:] == [
        "-",
        "-",
    ]  # no sanity check of baselines here
    assert section.rows[0][1] == "0.900 [0.850, 0.950]"
