"""One run on two processes through the real command line: the numbers and files of one process.

What each rank trains on is in tests/data/test_datamodule.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from augcam.data.normalize import normalize
from augcam.runs.build import build_data
from augcam.runs.finished_run import load_network
from augcam.runs.run_folder import RunFolder
from tests.cli.test_train import FILES
from tests.conftest import train_py

# The ranks have 30 and 31 images to evaluate, in one and in two batches.
TWO_RANKS = [
    "data=shapes", "data.train_size=201", "data.test_size=61", "data.holdout=61",
    "data.batch_size=10", "data.eval_batch_size=30", "model=resnet10", "model.width=8",
    "explain.images=3", "aug=cutout_rotate", "trainer=ddp", "trainer.devices=2",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=2",
    "trainer.log_every_n_steps=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the command was given."""
    here = tmp_path_factory.mktemp("ddp")
    done = train_py(*TWO_RANKS, cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    return here


@pytest.fixture(scope="module")
def folder(place) -> Path:
    """The run's folder, the only one."""
    (outputs,) = place.iterdir()
    (run,) = outputs.iterdir()
    return run


@pytest.fixture(scope="module")
def alone(folder) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(labels, probabilities) of the held-out sets: last.ckpt in this one process."""
    run = RunFolder(folder)
    data = build_data(run.config())
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    network = load_network(run, run.last, len(data.classes))
    found = {}
    for split, images in (("val", data.val_set), ("test", data.test_set)):
        with torch.inference_mode():
            logits = network(normalize(torch.from_numpy(images.images), data.mean, data.std))
        found[split] = images.labels, logits.double().softmax(dim=1).numpy()
    return found


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_are_those_of_one_process(folder, alone, split):
    labels, probabilities = alone[split]
    metrics = json.loads((folder / "metrics.json").read_text())[split]
    classes = range(probabilities.shape[1])
    expected = confusion_matrix(labels, probabilities.argmax(1), labels=classes)
    assert expected.sum() == 61
    assert metrics["confusion"] == expected.tolist()
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, probabilities.argmax(1)))
    assert metrics["loss"] == pytest.approx(
        log_loss(labels, probabilities, labels=classes), rel=1e-4
    )


def test_every_test_image_is_predicted_once_and_in_order(folder, alone):
    labels, probabilities = alone["test"]
    with np.load(folder / "test_predictions.npz") as saved:
        assert saved["label"].tolist() == labels.tolist()
        assert saved["predicted"].tolist() == probabilities.argmax(1).tolist()
        np.testing.assert_allclose(saved["confidence"], probabilities.max(1), rtol=2e-3)


def test_as_many_steps_as_one_process_with_the_global_batch(folder):
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 * (140 // 20)
    assert saved["callbacks"]["Recorder"]["images"] == 2 * 140


def test_files_are_written_once(folder):
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    event_files = {name for name in found if name.startswith("events.out.tfevents.")}
    assert len(event_files) == 2  # of fit and of test, as in a run on one process
    found.discard("train_ddp_process_1.log")  # the second rank's own
    assert found - event_files == FILES


def test_scalars_and_pictures_are_written_once(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    for tag in ("train/loss", "val/accuracy", "gradcam/seconds"):
        assert [event.step for event in events.Scalars(tag)] == [1, 2], tag
    for tag in ("gradcam/misclassified", "gradcam/tracked"):
        assert [event.step for event in events.Images(tag)] == [1, 2], tag
    assert len(events.Images("test/confusion")) == 1
