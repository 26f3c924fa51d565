"""Numbers first: no picture and no label can cost them; one entry adds a metric."""

import json
import logging

import numpy as np
import pytest
from rich.console import Console

import augcam.metrics
import augcam.training.module
import augcam.training.results
from augcam.metrics import Metric
from augcam.training.callbacks.gradcam import epochs_between_panels
from augcam.training.results import results_table
from augcam.viz.figures import confusion_figure, curves_figure, figure_array
from tests.training.conftest import tiny_run


@pytest.mark.parametrize("broken", ["curves_figure", "confusion_figure", "figure_array"])
def test_a_failing_figure_costs_a_warning(tmp_path, monkeypatch, caplog, broken):
    def fails(*_arguments):
        raise RuntimeError("no such font")

    monkeypatch.setattr(augcam.training.results, broken, fails)
    with caplog.at_level(logging.WARNING):
        result = tiny_run(tmp_path / "run", "trainer.max_epochs=1")
    assert json.loads(result.folder.metrics_file.read_text())["status"] == "finished"
    assert "a figure is missing: no such font" in caplog.text


def test_a_file_in_place_of_the_figures_costs_a_warning(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figures").write_text("mine")
    with caplog.at_level(logging.WARNING):
        result = tiny_run(
            tmp_path / "run", "trainer.max_epochs=1", "explain.images=1", "preview.samples=1"
        )
    assert result.metrics["status"] == "finished"
    assert (tmp_path / "run" / "figures").read_text() == "mine"
    assert "augmentation_preview.png is missing" in caplog.text


@pytest.mark.parametrize("name", [r"$\frac$", "$", r"$x^$ and \alpha", "{", "a_b^c"])
def test_any_class_name_can_be_drawn(name):
    counts = np.array([[3, 1], [0, 4]])
    assert figure_array(confusion_figure(counts, [name, "other"])).std() > 0
    assert figure_array(curves_figure({name: [(1, 0.5), (2, 0.6)]}, "accuracy")).std() > 0


@pytest.fixture
def one_more_metric(monkeypatch):
    """A metric that AugCAM does not have, added by one entry."""

    def auroc(num_classes):
        from torchmetrics.classification import MulticlassAUROC

        return MulticlassAUROC(num_classes)

    entry = Metric("auroc", "AUROC", True, "{:.3f}", auroc)
    monkeypatch.setattr(augcam.metrics, "METRICS", augcam.metrics.METRICS)
    augcam.metrics.METRICS.append(entry)
    yield
    augcam.metrics.METRICS.remove(entry)


def test_a_metric_is_added_by_one_entry(tmp_path, one_more_metric):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tiny_run(tmp_path / "run")
    metrics = json.loads(result.folder.metrics_file.read_text())
    assert 0 <= metrics["val"]["auroc"] <= 1
    assert 0 <= metrics["test"]["auroc"] <= 1
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in events.Scalars("val/auroc")] == [1, 2, 3]
    assert events.Scalars("final/test_auroc")
    console = Console(width=120, record=True)
    console.print(results_table(result.metrics))
    assert f"{metrics['test']['auroc']:.3f}" in console.export_text()


@pytest.mark.parametrize(
    ("asked", "epochs", "images", "every"),
    [
        ("auto", 35, 8, 1),
        ("auto", 50, 8, 1),
        ("auto", 200, 8, 4),
        ("auto", 200, 64, 32),
        (1, 200, 8, 1),
    ],
)
def test_long_runs_draw_at_most_fifty_pairs(asked, epochs, images, every):
    assert epochs_between_panels(asked, epochs, images) == every
    if asked == "auto":
        assert epochs // every <= 50
