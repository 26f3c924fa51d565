"""The report's charts: what is drawn is what was given, and what is noise is grey."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from augcam.report import charts as figures
from augcam.report.charts import Dot, PictureCell
from augcam.viz.figures import figure_array

STYLES = figures.group_styles(["none", "flip"], "none")


def test_every_group_has_a_look_of_its_own_and_the_baseline_is_the_same_everywhere():
    labels = [f"aug{i}" for i in range(20)]
    styles = figures.group_styles([*labels, "none"], "none")
    assert len({(s["color"], s["linestyle"]) for s in styles.values()}) == 21
    assert styles["none"] == figures.group_styles(["none"], "none")["none"]
    assert "none" not in figures.group_styles(labels, None)


def points(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xydata())


def test_a_curve_is_the_mean_of_the_runs_and_the_shade_goes_from_least_to_greatest():
    groups = {
        "none": [[(1, 0.2), (2, 0.4)], [(1, 0.3), (2, 0.8)]],
        "flip": [[(1, 0.5), (2, 0.6)]],
    }
    axes = figures.lines_figure(groups, STYLES, "epoch", "accuracy, %").axes[0]
    none, flip = axes.lines
    np.testing.assert_allclose(points(none), [[1, 25], [2, 60]])
    np.testing.assert_allclose(points(flip), [[1, 50], [2, 60]])
    (shade,) = axes.collections  # one run has none
    corners = np.asarray(shade.get_paths()[0].vertices)
    for epoch, low, high in ((1, 20, 30), (2, 40, 80)):
        at = corners[corners[:, 0] == epoch, 1]
        assert (at.min(), at.max()) == pytest.approx((low, high))


def test_a_run_that_stopped_early_counts_where_it_was():
    curves = [[(1, 0.2), (2, 0.4)], [(1, 0.4)]]
    (line,) = figures.lines_figure({"none": curves}, STYLES, "epoch", "%").axes[0].lines
    np.testing.assert_allclose(points(line), [[1, 30], [2, 40]])


def test_dots_stand_in_order_with_their_intervals():
    dots = [
        Dot("cutout", 1.3, (0.6, 2.0), [1.0, 1.6], "#0072b2"),
        Dot("none", 0.0, None, [0.0], "#1c2733"),
    ]
    figure = figures.dots_figure(dots, "points", reference=0.0)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cutout", "none"]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first is on top
    bars = [line for line in axes.lines if points(line)[:, 0].tolist() == [0.6, 2.0]]
    assert len(bars) == 1
    assert points(bars[0])[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize("label", ["none", "rotate, aug.rotate.limit=180, aug.rotate.p=1"])
def test_what_the_dots_measure_can_be_read_however_long_the_baselines_name_is(label):
    dots = [Dot(label, 0.0, None, [0.0], "#0072b2")]
    figure = figures.dots_figure(dots, f"test accuracy, points against {label}", reference=0.0)
    figure_array(figure)
    words = figure.axes[0].xaxis.label
    drawn = words.get_window_extent()
    assert words.get_text().split() == f"test accuracy, points against {label}".split()
    assert figure.bbox.x0 <= drawn.x0
    assert drawn.x1 <= figure.bbox.x1


def _cells(figure: Figure) -> tuple[np.ndarray, list[str]]:
    axes = figure.axes[0]
    return np.asarray(axes.images[0].get_array()), [text.get_text() for text in axes.texts]


def test_differences_that_are_clear_have_a_colour_and_the_others_are_grey():
    mean = np.array([[0.031, -0.008, 0.05, np.nan, 0.0]])
    clear = np.array([[True, True, False, False, False]])
    colours, texts = _cells(figures.difference_heatmap(mean, clear, ["cutout"], list("abcde")))
    assert texts == ["+3.1", "−0.8", "+5.0", "", "0.0"]
    red, _green, blue = colours[0, 0, :3]
    assert blue > red + 0.2  # more is blue
    red, _green, blue = colours[0, 1, :3]
    assert red > blue
    assert np.ptp(colours[0, 2, :3]) < 0.05  # grey, though it is the largest


def test_equal_differences_have_equal_strength_either_way():
    mean = np.array([[0.04, -0.04]])
    colours, _ = _cells(figures.difference_heatmap(mean, mean != 0, ["x"], ["a", "b"]))
    lightness = colours[0, :, :3] @ [0.299, 0.587, 0.114]
    assert lightness[0] == pytest.approx(lightness[1], abs=0.1)


def test_higher_accuracies_are_darker():
    colours, texts = _cells(
        figures.accuracy_heatmap(np.array([[0.9, 0.6, 0.3]]), ["x"], ["a", "b", "c"])
    )
    lightness = colours[0, :, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all()
    assert texts == ["90", "60", "30"]


def test_pictures_are_enlarged_pixel_by_pixel():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    rows = [
        [PictureCell(pictures[0], "cat"), PictureCell(pictures[1], "dog\n51%", right=False)],
        [PictureCell(pictures[2], "cat"), PictureCell(pictures[3], "cat\n93%", right=True)],
    ]
    figure = figures.looks_figure(rows, ["image", "none"], "evidence")
    drawn = figure_array(figure)
    for picture in pictures:
        large = picture.repeat(6, axis=0).repeat(6, axis=1)
        starts = np.argwhere((drawn == picture[0, 0]).all(axis=2))
        assert any(np.array_equal(drawn[y : y + 192, x : x + 192], large) for y, x in starts), (
            "a picture is missing or was resampled"
        )
    said = {text.get_text(): text.get_color() for text in figure.texts}
    assert {"image", "none", "evidence"} <= set(said)
    red, green, _blue = to_rgb(said["dog\n51%"])
    assert red > green
    red, green, _blue = to_rgb(said["cat\n93%"])
    assert green > red


def test_large_pictures_are_made_smaller():
    large = np.zeros((1024, 512, 3), np.uint8)
    figure = figures.looks_figure([[PictureCell(large, "cat")]], ["image"], "evidence")
    height, width, _ = figure_array(figure).shape
    assert height < 600
    assert width < 600


def test_charts_are_saved_in_few_colours_and_photographs_in_all_unless_they_are_heavy(tmp_path):
    dots = [Dot("none", 0.0, None, [0.0], "#1c2733")]
    figures.save_figure(figures.dots_figure(dots, "points"), tmp_path / "figures" / "chart.png")
    with Image.open(tmp_path / "figures" / "chart.png") as chart:
        assert chart.mode == "P"
    noise = np.random.default_rng(0).integers(0, 256, (10, 100, 100, 3), dtype=np.uint8)
    light = figures.looks_figure([[PictureCell(noise[0], "x")]], ["image"], "evidence")
    figures.save_figure(light, tmp_path / "light.png", few_colours=False)
    with Image.open(tmp_path / "light.png") as photograph:
        assert len(photograph.getcolors(1_000_000)) > 5000
    wide = np.random.default_rng(0).integers(0, 256, (40, 176, 176, 3), dtype=np.uint8)
    heavy = figures.looks_figure([[PictureCell(n, "x") for n in wide]], ["image"] * 40, "evidence")
    figures.save_figure(heavy, tmp_path / "heavy.png", few_colours=False)
    assert (tmp_path / "heavy.png").stat().st_size < wide.size / 2
    assert not list(tmp_path.glob(".*"))
