"""Checkpoints: best before last, the one before the last kept, and none with weights that are not."""

import json
import logging

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

from augcam.config.build import trust
from augcam.errors import RunError, UserError
from augcam.runs.run_folder import RunFolder
from augcam.training.callbacks.checkpoints import AtomicCheckpoints
from tests.training.conftest import tiny_run, weights


@pytest.fixture
def written(monkeypatch):
    """The names of the checkpoints, in the order in which they are written."""
    names = []
    really = AtomicCheckpoints.save_checkpoint

    def save(self, checkpoint, path, storage_options=None):
        really(self, checkpoint, path, storage_options)
        names.append(RunFolder(path).path.name)

    monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", save)
    return names


def test_the_best_is_written_before_the_last_of_its_epoch(tmp_path, written):
    # Killed between the two, the run makes the epoch again, and best.ckpt with it.
    tiny_run(tmp_path / "run", "trainer.max_epochs=1")
    assert written == ["best.ckpt", "last.ckpt"]


def test_the_checkpoint_before_the_last_is_kept_while_the_run_goes_on(tmp_path, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 3)
    epochs = [torch.load(p, weights_only=True)["epoch"] for p in (folder.last, folder.previous)]
    assert epochs == [1, 0]


class Best(Callback):
    def state_dict(self):
        return {"accuracy": np.float64(0.5)}


def test_state_that_no_checkpoint_gives_back_is_refused_at_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr("augcam.config.build._trusted", set())
    trust(["tests"])
    with pytest.raises(UserError, match=r"callbacks: Best: its state holds numpy\S+, which a"):
        tiny_run(tmp_path / "run", f"+callbacks.best._target_={__name__}.Best", "trust=[tests]")
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize(
    "overrides",
    [["optim.lr=1e30"], ["loss.l1=1e38"], ["optim.weight_decay=1e30", "optim.lr=1e9"]],
    ids=lambda o: o[0],
)
def test_weights_that_are_not_finite_stop_the_run_and_replace_no_checkpoint(tmp_path, overrides):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match=r"not finite at optimizer step \d+, learning rate"):
        tiny_run(folder.path, "scheduler=constant", *overrides)
    metrics = json.loads(folder.metrics_file.read_text())
    assert metrics["status"] == "failed"
    assert "not finite" in metrics["failure"]
    assert folder.state() == "failed"
    assert "not finite" in folder.why()
    for path in (folder.last, folder.best):
        if path.exists():
            assert all(value.isfinite().all() for value in weights(path).values())


def test_the_last_good_checkpoint_is_named_and_kept(tmp_path, died_in_epoch, monkeypatch, caplog):
    from augcam.training.module import Classifier

    folder = died_in_epoch(tmp_path / "run", 2)
    before = folder.last.read_bytes()
    really = Classifier.training_step

    def spoilt(self, batch, batch_idx):
        loss = really(self, batch, batch_idx)
        return loss * float("nan") if self.trainer.global_step == 3 else loss

    monkeypatch.setattr(Classifier, "training_step", spoilt)
    with caplog.at_level(logging.WARNING), pytest.raises(RunError) as caught:
        tiny_run(folder.path)
    # Two steps an epoch: the second step of the second epoch is the fourth.
    assert "the training loss is not finite at optimizer step 4, learning rate" in str(caught.value)
    assert f"the last good checkpoint is {folder.last}" in str(caught.value)
    assert folder.last.read_bytes() == before
