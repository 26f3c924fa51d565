"""Going on with a stopped run: from the newest checkpoint that is whole, and never silently anew."""

import logging
import random

import pytest
import torch

from augcam.config.compose import compose
from augcam.config.schema import plain, validate
from augcam.errors import UserError
from augcam.runs.finished_run import load_network
from augcam.runs.run_folder import RunFolder
from augcam.training import resume
from augcam.training.module import Classifier
from tests.training.conftest import same, tiny_run, weights


def flipped(path, where: int):
    content = bytearray(path.read_bytes())
    content[where] ^= 0x10
    path.write_bytes(content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("whole") / "run").folder


def test_a_run_that_died_goes_on_to_the_same_weights(tmp_path, whole, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 3)
    tiny_run(folder.path)
    assert same(weights(folder.last), weights(whole.last))
    assert same(weights(folder.best), weights(whole.best))
    assert not folder.previous.exists()


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing", "no config"])
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path, whole, died_in_epoch, caplog, damage
):
    folder = died_in_epoch(tmp_path / "run", 3)
    content = folder.last.read_bytes()
    if damage == "flipped":
        flipped(folder.last, len(content) // 2)
    elif damage == "no config":
        saved = torch.load(folder.last, weights_only=True)
        del saved["config"], saved["random_state"]
        torch.save(saved, folder.last)
    elif damage == "missing":
        folder.last.unlink()
    else:
        folder.last.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with caplog.at_level(logging.WARNING):
        tiny_run(folder.path)
    assert str(folder.last) in caplog.text
    assert f"going on from {folder.previous}" in caplog.text
    if damage == "no config":
        assert "holds no config, random_state" in caplog.text
    assert same(weights(folder.last), weights(whole.last))
    assert same(weights(folder.best), weights(whole.best))


def test_a_flipped_bit_is_seen_wherever_it_matters(tmp_path, died_in_epoch):
    from augcam.runs.finished_run import read_checkpoint

    folder = died_in_epoch(tmp_path / "run", 2)
    content, before = folder.last.read_bytes(), weights(folder.last)
    where = random.Random(0)
    for _ in range(60):
        folder.last.write_bytes(content)
        flipped(folder.last, where.randrange(len(content)))
        try:
            after = read_checkpoint(folder.last)["state_dict"]
        except UserError:
            continue
        assert same(after, before)  # it was in the padding between two records


def test_without_any_whole_checkpoint_the_run_is_refused_in_words(tmp_path, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 3)
    for path in (folder.last, folder.previous):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError) as caught:
        tiny_run(folder.path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(str(folder.last))
    assert lines[1].startswith(str(folder.previous))
    assert "start a new run" in lines[2]


def test_a_lost_last_checkpoint_beside_a_later_best_one_is_refused(tmp_path, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 3)
    saved = torch.load(folder.last, weights_only=True)  # of the second epoch
    torch.save(saved, folder.best)
    folder.last.unlink()
    folder.previous.unlink()
    with pytest.raises(UserError, match=r"last.ckpt is missing, .* 1 epochs.*\nstart a new run"):
        tiny_run(folder.path)
    assert folder.best.exists()


def test_a_run_killed_before_its_first_last_checkpoint_says_that_it_starts_anew(
    tmp_path, whole, died_in_epoch, caplog
):
    folder = died_in_epoch(tmp_path / "run", 2)
    folder.last.unlink()  # best.ckpt is written first
    with caplog.at_level(logging.WARNING):
        tiny_run(folder.path)
    assert f"{folder}: stopped before the first last.ckpt was written" in caplog.text
    assert same(weights(folder.last), weights(whole.last))


@pytest.mark.parametrize("damage", ["flipped", "missing"])
@pytest.mark.parametrize("holder", ["last", "previous"])
def test_a_damaged_best_checkpoint_is_written_again_from_one_of_its_epoch(
    tmp_path, whole, died_in_epoch, caplog, monkeypatch, damage, holder
):
    """The best of three epochs is made to be the second, or the first; the run dies in the third."""
    scores = [0.1, 0.9, 0.5] if holder == "last" else [0.9, 0.1, 0.5]
    monkeypatch.setattr(Classifier, "_publish", scored(scores))
    folder = died_in_epoch(tmp_path / "run", 3)
    before = weights(folder.best)
    if damage == "missing":
        folder.best.unlink()
    else:
        flipped(folder.best, folder.best.stat().st_size // 2)
    with caplog.at_level(logging.WARNING):
        tiny_run(folder.path)
    assert f"written again from {getattr(folder, holder)}, of the same epoch" in caplog.text
    assert same(weights(folder.best), before)
    assert same(weights(folder.last), weights(whole.last))


def test_weights_of_the_best_epoch_that_are_nowhere_else_are_named_as_lost(
    tmp_path, died_in_epoch, caplog, monkeypatch
):
    scores = [0.9, 0.1, 0.2, 0.3]
    monkeypatch.setattr(Classifier, "_publish", scored(scores))
    folder = died_in_epoch(tmp_path / "run", 4, "trainer.max_epochs=4")
    flipped(folder.best, folder.best.stat().st_size // 2)
    damaged = folder.best.read_bytes()
    with caplog.at_level(logging.WARNING):
        result = tiny_run(folder.path, "trainer.max_epochs=4")
    assert "checksum differs" in caplog.text
    assert "the weights of its epoch, 1, are lost" in caplog.text
    assert result.metrics["status"] == "finished"
    assert folder.best.read_bytes() == damaged
    with pytest.raises(UserError, match=r"checksum differs\)\ncheckpoint=last takes"):
        load_network(folder, folder.best, 10)


def scored(scores):
    """In place of Classifier._publish: the validation accuracy of each epoch is one of these."""
    really = Classifier._publish

    def publish(self, split, metrics):
        values = metrics.compute_and_reset()
        accuracy = torch.tensor(scores[self.current_epoch] if split == "val" else 0.0)
        metrics.compute_and_reset = lambda: values | {"accuracy": accuracy}
        really(self, split, metrics)
        del metrics.compute_and_reset

    return publish


def test_what_a_kill_left_half_written_is_removed(tmp_path, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 2)
    (folder.checkpoints / ".last.ckpt.12345").write_bytes(b"half")
    tiny_run(folder.path)
    assert {path.name for path in folder.checkpoints.iterdir()} == {"last.ckpt", "best.ckpt"}


def test_a_config_that_is_not_the_checkpoints_is_refused(tmp_path, died_in_epoch):
    folder = died_in_epoch(tmp_path / "run", 3)
    with pytest.raises(UserError, match=r"seed=7: .*last.ckpt was trained with 1"):
        tiny_run(folder.path, "seed=7")


@pytest.mark.parametrize(
    ("steps", "between", "refused"), [(5, True, True), (5, False, False), (-1, True, False)]
)
def test_a_run_limited_in_steps_goes_on_from_within_an_epoch_alone(
    tmp_path, monkeypatch, caplog, steps, between, refused
):
    config = validate(compose(["data=shapes", f"trainer.max_steps={steps}"]))
    saved = {
        "config": plain(config),
        "loops": {"fit_loop": {"epoch_loop.batch_progress": {"is_last_batch": between}}},
        "callbacks": {"Recorder": {"history": []}},  # nothing validated: no best.ckpt is missed
    }
    path = tmp_path / "last.ckpt"
    monkeypatch.setattr(resume, "newest_checkpoint", lambda folder: (path, saved))
    if refused:
        with pytest.raises(UserError, match="stopped between two epochs"):
            resume.resume_point(RunFolder(tmp_path), config)
        return
    with caplog.at_level(logging.INFO):
        assert resume.resume_point(RunFolder(tmp_path), config) == path
    assert caplog.messages == [f"going on from {path}"]
