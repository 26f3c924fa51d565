"""Loggers and callbacks by their names in the config: all get what TensorBoard gets."""

import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.callbacks import ProgressBar

from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.runs.build import build_data
from augcam.runs.run_folder import RunFolder
from augcam.training.callbacks.history import Recorder
from augcam.training.callbacks.progress import ProgressDisplay
from augcam.training.trainer import build_trainer
from tests.conftest import compose
from tests.training.conftest import TINY, same, tiny_run, weights

PICTURES = {
    "augmentation/preview_0000.png", "gradcam/misclassified_0001.png", "gradcam/misclassified_0002.png",
    "gradcam/tracked_0001.png", "gradcam/tracked_0002.png", "test/confusion_0002.png",
    "val/confusion_0002.png",
}  # fmt: skip
SHOWN = ["explain.images=1", "preview.samples=1", "preview.draws=1", "trainer.max_epochs=2",
         "trainer.log_every_n_steps=1"]  # fmt: skip


def test_csv_and_tensorboard_side_by_side_get_the_same(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tiny_run(tmp_path / "run", *SHOWN, "logger=[tensorboard,csv]")
    kept = tmp_path / "run" / "csv" / "version_0"
    with (kept / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        of_csv = [(int(row["step"]), float(row[tag])) for row in rows if tag in row]
        of_events = [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        if not tag.startswith("final/"):  # HPARAMS keeps those at a step of its own
            assert of_csv == of_events, tag
        assert of_csv, tag
    pictures = kept / "images"
    assert {str(p.relative_to(pictures)) for p in pictures.rglob("*.png")} == PICTURES
    shown = np.asarray(Image.open(pictures / "val" / "confusion_0002.png"))
    figure = np.asarray(Image.open(result.folder.figures / "confusion_val.png"))
    assert np.array_equal(shown, figure)


def test_a_run_without_any_logger(tmp_path):
    result = tiny_run(tmp_path / "run", *SHOWN, "logger=[]")
    assert result.metrics["status"] == "finished"
    assert not list((tmp_path / "run").glob("events.*"))
    assert (result.folder.figures / "gradcam_tracked.png").is_file()


def test_wandb_offline_gets_scalars_and_pictures(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tiny_run(tmp_path / "run", *SHOWN, "logger=[wandb]", "logger.wandb.offline=true")
    (media,) = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images")
    assert len(list(media.rglob("*.png"))) == len(PICTURES)


def test_mlflow_in_a_local_folder_gets_scalars_and_pictures(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    runs = tmp_path / "mlruns"
    result = tiny_run(tmp_path / "run", *SHOWN, "logger=[mlflow]", f"logger.mlflow.save_dir={runs}")
    client = mlflow.MlflowClient(f"file:{runs}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "augcam"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["val/accuracy"] == pytest.approx(result.metrics["val"]["accuracy"])
    found = {str(p.relative_to(runs)).partition("/images/")[2] for p in runs.rglob("*.png")}
    assert found == PICTURES


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_is_refused_in_words(tmp_path, name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(UserError, match=rf"logger.{name}: .*{name}"):
        tiny_run(tmp_path / "run", f"logger=[{name}]")


def test_a_callback_by_its_name_in_the_config(tmp_path):
    result = tiny_run(
        tmp_path / "run", "callbacks=[early_stopping]", "callbacks.early_stopping.patience=1",
        "+callbacks.early_stopping.min_delta=1.0", "trainer.max_epochs=30",
    )  # fmt: skip
    assert result.metrics["epochs"] == 2
    assert json.loads(result.folder.metrics_file.read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["RichProgressBar", "TQDMProgressBar"])
def test_a_progress_bar_of_lightnings_replaces_ours(tmp_path, name):
    bar = f"+callbacks.bar._target_=pytorch_lightning.callbacks.{name}"
    config = validate(compose([*TINY, bar, "trainer.enable_progress_bar=true"]))
    data = build_data(config)
    data.prepare_data()
    data.setup("fit")
    trainer = build_trainer(config, RunFolder(tmp_path), data, Recorder())
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    bars = [one for one in callbacks if isinstance(one, ProgressBar | ProgressDisplay)]
    assert [type(one).__name__ for one in bars] == [name]


def test_what_is_no_callback_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"callbacks.x._target_=torch.nn.ReLU: is not a Callback"):
        tiny_run(tmp_path / "run", "+callbacks.x._target_=torch.nn.ReLU")


EMA = ("callbacks=[ema]", "callbacks.ema.decay=0.5")


def test_ema_saves_the_average_of_the_weights_in_place_of_the_last(tmp_path):
    """Decay 0 forgets all but the last step, and is then no average; decay 1 never leaves the start."""
    forgets = tiny_run(tmp_path / "forgets", EMA[0], "callbacks.ema.decay=0.0").folder
    stays = tiny_run(tmp_path / "stays", EMA[0], "callbacks.ema.decay=1.0").folder
    plain = weights(tiny_run(tmp_path / "plain").folder.last)
    key = "network.conv1.weight"
    assert torch.equal(weights(forgets.last)[key], plain[key])
    assert not torch.equal(weights(stays.last)[key], plain[key])


def test_a_run_with_ema_that_died_goes_on_to_the_same_weights(tmp_path, died_in_epoch):
    whole = tiny_run(tmp_path / "whole", *EMA).folder
    folder = died_in_epoch(tmp_path / "run", 3, *EMA)
    tiny_run(folder.path, *EMA)
    assert same(weights(folder.last), weights(whole.last))


def test_a_callback_can_monitor_the_loss_of_training(tmp_path):
    stop = (
        "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:train/loss,"
        "min_delta:1000,patience:1}"
    )
    result = tiny_run(tmp_path / "run", stop)
    # The first epoch is the best so far, the second is not 1000 better.
    assert [row["epoch"] for row in result.metrics["history"]] == [1, 2]
