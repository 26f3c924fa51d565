"""A run in a process of its own: it goes by the folder's config, and its end is told."""

import pytest

from augcam.config.compose import compose
from augcam.config.schema import validate
from augcam.errors import RunError
from augcam.refine.processes import train_in_process
from augcam.runs.run_folder import RunFolder


def test_a_run_is_trained_in_a_process_of_its_own(tmp_path):
    run = RunFolder(tmp_path / "run")
    tiny = validate(compose([
        "data=shapes", "data.train_size=100", "data.test_size=40", "data.holdout=20",
        "data.batch_size=20", "model=resnet10", "model.width=8", "explain.images=0",
        "preview.samples=0", "trainer.accelerator=cpu", "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1", "aug=rotate", "aug.rotate.except=[ring]", "seed=3",
    ]))  # fmt: skip
    run.save_config(tiny, ["aug=rotate"])
    train_in_process(run)
    assert run.state() == "finished"
    assert run.metrics()["config"]["aug"]["rotate"]["except"] == ["ring"]
    assert run.overrides() == ["aug=rotate"]


def test_a_run_that_does_not_finish_is_told_with_its_reason(tmp_path):
    with pytest.raises(RunError, match=r"not a run folder.*\nthe same command goes on from here"):
        train_in_process(RunFolder(tmp_path))
