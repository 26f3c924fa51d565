"""Curves and confusion matrices."""

import matplotlib
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf

from augcam.errors import UserError
from augcam.viz.figures import confusion_figure, curves_figure, figure_array


def test_figures_are_drawn_without_pyplots_global_state():
    before = dict(matplotlib.rcParams)
    confusion = np.array([[8, 2], [1, 9]])
    figure = confusion_figure(confusion, ["cat", "dog"])
    (axes, _bar) = figure.axes
    assert axes.get_title() == "accuracy 85.00% of 20 images"
    assert [text.get_text() for text in axes.texts] == ["8", "2", "1", "9"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0.1, 0.9]])
    picture = figure_array(figure)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert Gcf.figs == {}
    assert dict(matplotlib.rcParams) == before


def test_confusion_of_other_size_is_refused_and_an_empty_class_is_no_error():
    with pytest.raises(UserError, match=r"3 classes cannot be \(2, 2\)"):
        confusion_figure(np.eye(2), ["a", "b", "c"])
    figure_array(confusion_figure(np.zeros((3, 3), dtype=int), ["a", "b", "c"]))


def test_curves_hold_the_points_and_name_the_last():
    curves = {"train": [(1, 0.5), (2, 0.75)], "val": [(2, 0.625)], "test": []}
    (axes,) = curves_figure(curves, "accuracy").axes
    assert [np.asarray(line.get_xydata()).tolist() for line in axes.lines] == [
        [[1, 0.5], [2, 0.75]],
        [[2, 0.625]],
    ]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["train  75.00%", "val  62.50%"]
    figure_array(curves_figure({"train": []}, "loss"))
