"""A whole run through the real command line: its files, its scalars, and going on after a stop."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from augcam.errors import UserError
from augcam.runs.build import build_data
from augcam.runs.finished_run import load_network
from augcam.runs.run_folder import RunFolder
from tests.conftest import ROOT, train_py

TINY = [
    "data=shapes", "data.train_size=200", "data.test_size=60", "data.holdout=60", "data.batch_size=20",
    "model=resnet10", "model.width=8", "explain.images=3", "trainer.accelerator=cpu",
]  # fmt: skip
CLASSES = 10
# What a finished run leaves besides its event files.
FILES = {
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml",
    "checkpoints/best.ckpt", "checkpoints/last.ckpt",
    "figures/accuracy.png", "figures/loss.png",
    "figures/augmentation_preview.png",
    "figures/confusion_test.png", "figures/confusion_val.png",
    "figures/gradcam_misclassified.png", "figures/gradcam_tracked.png",
    "hparams.yaml", "metrics.json", "test_predictions.npz", "train.log",
}  # fmt: skip


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = train_py(*TINY, "aug=cutout_rotate", "trainer.max_epochs=2", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


def test_the_exact_tree_of_files(finished):
    folder, _ = finished
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    # Lightning closes its writer after fit and opens another for the test: one file each.
    event_files = {name for name in found if name.startswith("events.out.tfevents.")}
    assert len(event_files) == 2
    assert found - event_files == FILES


def test_metrics_json(finished):
    folder, _ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert (metrics["aug"], metrics["data"], metrics["model"]) == (
        "cutout_rotate",
        "shapes",
        "resnet10",
    )
    assert (metrics["seed"], metrics["epochs"], len(metrics["classes"])) == (1, 2, CLASSES)
    for split, count in (("val", 60), ("test", 60)):
        confusion = np.array(metrics[split]["confusion"])
        assert confusion.sum() == count
        assert metrics[split]["accuracy"] == pytest.approx(np.trace(confusion) / count)
        for row, name in enumerate(metrics["classes"]):
            expected = confusion[row, row] / confusion[row].sum()
            assert metrics[split]["accuracy_per_class"][name] == pytest.approx(expected)
    assert metrics["train_images_per_second"] > 0
    assert metrics["environment"]["precision"] in ("32-true", "bf16-mixed")


def test_predictions_agree_with_the_confusion_matrix(finished):
    folder, _ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    with np.load(folder / "test_predictions.npz") as saved:
        counted = np.zeros((CLASSES, CLASSES), dtype=int)
        np.add.at(counted, (saved["label"], saved["predicted"]), 1)
    assert counted.tolist() == metrics["test"]["confusion"]


def test_tensorboard_is_a_dashboard(finished):
    folder, _ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    read = events(folder)
    for tag in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/ece", "val/top5"):
        assert [event.step for event in read.Scalars(tag)] == [1, 2], tag
    for name in metrics["classes"]:
        last = read.Scalars(f"val/accuracy_class/{name}")[-1].value
        assert last == pytest.approx(metrics["val"]["accuracy_per_class"][name])
    assert read.Scalars("lr")
    assert [event.step for event in read.Images("gradcam/misclassified")] == [1, 2]
    assert [event.step for event in read.Images("gradcam/tracked")] == [1, 2]
    assert read.Images("augmentation/preview")
    assert read.Images("val/confusion")
    assert read.Scalars("final/test_accuracy")[0].value == pytest.approx(
        metrics["test"]["accuracy"]
    )
    assert not read.Tags()["graph"]


@pytest.mark.parametrize("name", ["last", "best"])
def test_checkpoints_hold_weights_and_plain_values_alone(finished, name):
    folder, _ = finished
    saved = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert "network.conv1.weight" in saved["state_dict"]


def test_output_for_a_pipe_is_plain_and_free_of_warnings(finished):
    _, output = finished
    assert "\x1b[" not in output
    assert "Warning" not in output
    assert "epoch 2/2" in output
    for name in ("circle", "test", "all classes"):
        assert name in output


def test_a_finished_run_is_left_alone(finished):
    folder, _ = finished
    before = (folder / "metrics.json").read_bytes()
    done = train_py(f"run={folder}")
    assert done.returncode == 0, done.stderr
    assert "has finished" in done.stdout
    assert (folder / "metrics.json").read_bytes() == before


def stopped(
    folder: Path, *arguments: str, signum: int, steps: int
) -> subprocess.CompletedProcess[str]:
    """A run to which a signal comes in the batch after `steps` optimizer steps."""
    target = "tests.cli.callbacks.SignalInBatch"
    callback = f"{{_target_: {target}, signum: {int(signum)}, steps: {steps}}}"
    return train_py(
        *arguments, f"hydra.run.dir={folder}", "trust=[tests]", f"+callbacks.signal={callback}",
        cwd=ROOT,
    )  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value for name, value in saved.items() if name.startswith("network.")}


# 17 batches an epoch.
LONGER = [*TINY, "data.train_size=400", "trainer.max_epochs=3", "aug=cutout_rotate",
          "model.dropout=0.2"]  # fmt: skip


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_stopped_run_goes_on_to_bit_identical_weights(tmp_path, signum, status):
    whole = train_py(*LONGER, f"hydra.run.dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr

    part = tmp_path / "part"
    ended = stopped(part, *LONGER, signum=signum, steps=20)
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert f"python train.py run={part} 'trust=[tests]'" in ended.stdout
    # The batch was finished, and no other was begun.
    assert torch.load(part / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 21
    interrupted = json.loads((part / "metrics.json").read_text())
    assert interrupted["status"] == "interrupted"
    assert interrupted["test"] is None

    done = train_py(f"run={part}", "trust=[tests]", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in (part / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    expected, found = weights(tmp_path / "whole"), weights(part)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    first = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    second = json.loads((part / "metrics.json").read_text())
    assert second["status"] == "finished"
    assert second["test"] == first["test"]
    assert second["aug"] == "cutout_rotate"
    for mine, theirs in zip(first["history"], second["history"], strict=True):
        assert mine["val/accuracy"] == theirs["val/accuracy"]
        assert mine["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-6)


def test_going_on_under_another_config_is_refused(tmp_path):
    folder = tmp_path / "run"
    stopped(folder, *LONGER, signum=signal.SIGINT, steps=2)
    before = {path: path.read_bytes() for path in folder.rglob("*.ckpt")}
    done = train_py(
        f"run={folder}", "trainer.max_epochs=40", "optim.lr=0.5", "trust=[tests]", cwd=ROOT
    )
    assert done.returncode == 2
    assert "trainer.max_epochs=40: this run has 3" in done.stderr
    assert "optim.lr=0.5: this run has 0.1" in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*.ckpt")} == before


def test_a_run_older_than_a_key_goes_on_with_its_default(tmp_path, finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    del metrics["config"]["model"]["whiten"]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    config = RunFolder(finished[0]).config()
    RunFolder(tmp_path).check_continuation(config)
    whitened = config.model_copy(update={"model": config.model.model_copy(update={"whiten": True})})
    with pytest.raises(UserError, match="whiten=True: this run has False"):
        RunFolder(tmp_path).check_continuation(whitened)


def test_fast_dev_run_leaves_no_folder(tmp_path):
    done = train_py(*TINY, "trainer.fast_dev_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "outputs").iterdir()) == []


def test_without_holdout_there_is_no_validation(tmp_path):
    done = train_py(
        *TINY, "data.holdout=0", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val"] is None
    assert np.sum(metrics["test"]["confusion"]) == 60
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def test_whitening_filters_are_those_of_the_training_images(tmp_path):
    run = tmp_path / "run"
    done = train_py(*TINY, "model.whiten=true", "trainer.max_epochs=1", f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(run)
    data = build_data(folder.config())
    data.prepare_data()
    data.setup("fit")
    images = (data.train_set.images[:] / 255 - data.mean) / data.std
    whitening = load_network(folder, folder.last, CLASSES).get_submodule("conv1.0")
    seen = whitening(torch.tensor(images, dtype=torch.float32).permute(0, 3, 1, 2))
    rows = seen[..., 1:-1, 1:-1].transpose(0, 1).flatten(1)  # without the padded border
    moments = rows @ rows.T / rows.shape[1]
    assert moments.diag()[0] == pytest.approx(1, abs=0.01)
    assert (moments - moments.diag().diag()).abs().max() < 1e-3


def test_validating_on_the_test_set_is_marked(tmp_path):
    done = train_py(
        *TINY, "data.holdout=test", "trainer.max_epochs=3", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val"]["confusion"] == metrics["test"]["confusion"]
    assert "best.ckpt chosen by it" in done.stdout + done.stderr
    assert "val = test set" in done.stdout
    accuracies = [row["val/accuracy"] for row in metrics["history"]]
    best = max(accuracies)
    row = next(line for line in done.stdout.splitlines() if "best epoch" in line)
    assert f"best epoch: {accuracies.index(best) + 1}" in row
    assert f"{best:.2%}" in row


def test_a_test_set_that_no_epoch_was_validated_on_has_no_best_epoch(tmp_path):
    done = train_py(
        *TINY, "data.holdout=test", "trainer.max_epochs=1", "trainer.limit_val_batches=0",
        f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best epoch" not in done.stdout


def test_multirun_makes_a_folder_for_each_job(tmp_path):
    done = train_py(
        "-m", *TINY, "trainer.max_epochs=1", "aug=none,flip", f"hydra.sweep.dir={tmp_path}",
        "trainer.limit_train_batches=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {json.loads(path.read_text())["aug"] for path in tmp_path.glob("*/metrics.json")}
    assert found == {"none", "flip"}


def test_ddp_in_a_sweep_is_refused(tmp_path):
    done = train_py("-m", *TINY, "trainer.strategy=ddp", "seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2
    assert "ddp_fork" in done.stderr


def test_a_sweep_is_one_folder_with_a_folder_for_each_job(tmp_path):
    done = train_py(
        "-m", *TINY, "trainer.max_epochs=1", "trainer.limit_train_batches=1", "explain.images=0",
        "seed=1,2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert {path.name for path in sweep.glob("seed=*")} == {"seed=1", "seed=2"}
