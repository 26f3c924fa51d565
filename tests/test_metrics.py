"""The registry of metrics: one entry, and everything shows it."""

import csv

import pytest
import torch

import augcam.metrics
from augcam.metrics import Metric
from augcam.report.write import write_report
from augcam.training.module import HeldOut
from tests.report.conftest import write_run
from tests.report.make import make_sweep


@pytest.fixture
def brier():
    """A metric that AugCAM does not have, added by one entry."""
    entry = Metric("brier", "Brier score", False, "{:.5f}", about="squared error of probabilities")
    augcam.metrics.METRICS.append(entry)
    yield entry
    augcam.metrics.METRICS.remove(entry)


def test_a_metric_of_ones_own_is_in_runs_csv_and_on_both_pages(tmp_path, brier):
    for number, run in enumerate(make_sweep(tmp_path, ("none", "flip"), (1, 2), evaluated=0)):
        metrics = run.metrics()
        metrics["test"]["brier"] = 0.25 + number / 1024
        run.write_metrics(metrics)
    page = write_report([tmp_path])
    with (tmp_path / "runs.csv").open() as file:
        rows = [float(row["test_brier"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [0.25 + number / 1024 for number in range(4)]
    # Means of two runs each: 0.25 + 0.5/1024 and 0.25 + 2.5/1024.
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        for shown in ("Brier score (lower is better)", "0.25049", "0.25244"):
            assert shown in text
        assert "Brier score: squared error of probabilities." in text


def test_what_is_no_number_in_a_metric_leaves_the_run_out_with_a_reason(tmp_path, brier):
    runs = make_sweep(tmp_path, ("none", "flip"), (1, 2), evaluated=0)
    metrics = runs[0].metrics()
    metrics["test"]["brier"] = "small"
    runs[0].write_metrics(metrics)
    page = write_report([tmp_path])
    assert "brier: a number is needed" in page.read_text()
    assert "Brier score" not in page.read_text()  # no other run has it


def test_top5_is_measured_where_it_can_be_wrong():
    for classes in (3, 5, 6):
        held_out = HeldOut(classes)
        held_out.update(torch.eye(classes), torch.zeros(classes, dtype=torch.int64))
        assert ("top5" in held_out.compute_and_reset()) == (classes > 5)


def test_top5_of_few_classes_is_not_on_the_page(tmp_path):
    for seed in (1, 2):  # of an earlier version, which measured it: their three classes are 100%
        run = write_run(tmp_path / f"{seed}", "aug=none", f"seed={seed}")
        metrics = run.metrics()
        metrics["test"] |= {"top5": 1.0, "loss": 0.5}
        run.write_metrics(metrics)
    page = write_report([tmp_path]).read_text()
    assert "top5 (" not in page
    assert "loss (lower is better)" in page
