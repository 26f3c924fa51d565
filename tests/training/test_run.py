"""How a run ends: what the disk does to it is reported in words, with what to do next."""

import errno
import io
import json
import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from augcam.config.schema import validate
from augcam.data.datamodule import ImageDataModule
from augcam.errors import RunError, UserError, explained
from augcam.models.resnet import resnet
from augcam.runs.run_folder import RunFolder
from augcam.training.build import build_classifier
from augcam.training.callbacks import predictions
from augcam.training.callbacks.checkpoints import AtomicCheckpoints
from augcam.training.callbacks.history import Recorder
from augcam.training.run import announce, check_size, read_data
from augcam.training.trainer import build_trainer
from tests.conftest import compose
from tests.training.conftest import TINY, Died, same, tiny_run


@pytest.fixture
def first_weights(monkeypatch):
    """A function: the weights of the network when a run is ready to be fitted; it gets no further."""

    def ready(path, *overrides):
        networks = []

        def keep(_trainer, classifier, *_others):
            networks.append(classifier.network)
            raise Died

        with monkeypatch.context() as patched:
            patched.setattr("augcam.training.run.fit_and_test", keep)
            with pytest.raises(Died):
                tiny_run(path, *overrides)
        return networks[0].state_dict()

    return ready


def test_a_run_begins_with_the_weights_of_the_file(tmp_path, first_weights):
    theirs = resnet(10, width=8, blocks=(1, 1, 1, 1)).state_dict()
    torch.save(theirs, tmp_path / "w.pt")
    assert same(first_weights(tmp_path / "run", f"model.weights={tmp_path}/w.pt"), theirs)


def test_a_run_that_goes_on_needs_the_file_no_more(tmp_path, died_in_epoch, first_weights):
    theirs = resnet(10, width=8, blocks=(1, 1, 1, 1)).state_dict()
    torch.save(theirs, tmp_path / "w.pt")
    given = f"model.weights={tmp_path}/w.pt"
    died_in_epoch(tmp_path / "run", 2, given)
    (tmp_path / "w.pt").unlink()
    assert not same(first_weights(tmp_path / "run", given), theirs)


def test_a_run_with_augmixs_loss_comes_to_its_end(tmp_path):
    result = tiny_run(tmp_path / "run", "aug=augmix", "loss.jsd=12", "trainer.max_epochs=1")
    assert result.metrics["status"] == "finished"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EIO, "see to the disk"),
        (errno.EACCES, "make it writable"),
    ],
    ids=["ENOSPC", "EIO", "EACCES"],
)
def test_a_disk_that_fails_at_a_checkpoint(tmp_path, monkeypatch, number, remedy):
    really = os.fsync

    def fails(descriptor):
        if "checkpoints" in os.readlink(f"/proc/self/fd/{descriptor}"):  # noqa: PTH115
            raise OSError(number, os.strerror(number))
        really(descriptor)

    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(RunError) as caught:
            tiny_run(folder.path)
    first, second = str(caught.value).splitlines()
    assert first == f"{folder.best}: {os.strerror(number)}"
    assert second == f"{remedy}, then go on: python train.py run={folder.path}"
    assert explained(caught.value)[1] == 1
    assert json.loads(folder.metrics_file.read_text())["status"] == "failed"
    assert list(folder.checkpoints.iterdir()) == []
    assert tiny_run(folder.path).metrics["status"] == "finished"


def test_a_full_disk_within_torchs_writer(tmp_path, monkeypatch):
    """torch hides the disk's error behind one about its own position in the file."""
    import torch

    class Full(io.BytesIO):
        def write(self, _content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            pass

    really = torch.save
    monkeypatch.setattr(torch, "save", lambda content, _file: really(content, Full()))
    with pytest.raises(RunError, match=r"best.ckpt: No space left on device\nfree space"):
        tiny_run(tmp_path / "run")


def test_event_files_on_a_full_disk_end_the_run_without_a_traceback(tmp_path, monkeypatch, capfd):
    from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    def unwatched(self, checkpoint, path, storage_options=None):
        """Checkpoints are no part of this."""

    monkeypatch.setattr(LocalFileSystem, "append", full)
    monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", unwatched)
    with pytest.raises(RunError, match=r"No space left on device\nfree space, then go on"):
        tiny_run(tmp_path / "run")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.fixture
def half_an_image(tmp_path):
    """A folder of images, one of those to test cut off half-way: its header can still be read."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(noise).save(tmp_path / name / f"{number}.png")
    file = tmp_path / "test" / "b" / "2.png"
    file.write_bytes(file.read_bytes()[:1500])
    return file


def test_a_test_image_that_cannot_be_read_stops_the_run_before_it_is_trained(half_an_image):
    words = ("data=folder", f"data.root={half_an_image.parents[2]}", "data.image_size=32",
             "data.batch_size=4", "data.holdout=0")  # fmt: skip
    with pytest.raises(UserError, match=str(half_an_image)):
        read_data(validate(compose(words)))


@pytest.mark.parametrize(
    ("batch_size", "line", "left_out"),
    [(7, "20 to train on in 2 batches of 7", 6), (9, "20 to train on in 2 batches of 9", 0)],
)
def test_a_run_says_its_batches_and_the_many_images_that_fill_none(
    tmp_path, caplog, batch_size, line, left_out
):
    config = validate(compose([*TINY, f"data.batch_size={batch_size}"]))
    data, folder = read_data(config), RunFolder(tmp_path)
    trainer = build_trainer(config, folder, data, Recorder())
    with caplog.at_level(logging.INFO):
        announce(config, folder, data, build_classifier(config, data.classes), trainer)
    assert (
        f"data     shapes: {line}, 20 held out, {len(data.classes)} classes, 32x32 pixels"
        in caplog.text
    )
    words = f"data.batch_size=7: {left_out} of 20 training images are left out of every epoch"
    assert (words in caplog.text) == (left_out > 2)
    assert ("left out" in caplog.text) == (left_out > 2)


def test_images_of_another_size_than_the_network_is_built_for_are_refused():
    config = validate(compose(["data=torchvision", "data.dataset=MNIST", "model.stem=auto"]))
    check_size(config, 28)
    check_size(config, 64)  # the same network
    with pytest.raises(UserError, match=r"96 pixels .* built for 28; give data.image_size=96"):
        check_size(config, 96)
    library = ["model=torchvision", "model.arch=vit_b_16", "data=torchvision", "data.dataset=MNIST"]
    with pytest.raises(UserError, match=r"data\.image_size=64"):
        check_size(validate(compose(library)), 64)


def test_a_disk_that_is_full_when_a_run_goes_on_leaves_what_it_had(tmp_path, monkeypatch):
    def full(_self, _metrics):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("augcam.training.run.fit_and_test", lambda *_: 2)
        tiny_run(folder.path)
    before = folder.metrics_file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_metrics", full)
        with pytest.raises(RunError, match=r"No space left on device\nfree space, then go on"):
            tiny_run(folder.path)
    assert folder.metrics_file.read_bytes() == before


def test_what_is_wrong_only_after_training_is_a_failure_that_can_be_mended(tmp_path, monkeypatch):
    def cut_short(_self):
        raise UserError("decoded images cannot be read")

    folder = RunFolder(tmp_path / "run")
    monkeypatch.setattr(ImageDataModule, "test_dataloader", cut_short)
    with pytest.raises(RunError) as caught:
        tiny_run(folder.path, "trainer.max_epochs=1")
    first, second = str(caught.value).splitlines()
    assert first == "decoded images cannot be read"
    assert second == f"then go on: python train.py run={folder.path}"
    assert folder.state() == "failed"
    assert folder.last.is_file()


def test_a_run_that_goes_on_has_not_failed_any_more(tmp_path, monkeypatch):
    def refuse(_self):
        raise UserError("decoded images cannot be read")

    def die(*_arguments):
        raise Died

    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(ImageDataModule, "test_dataloader", refuse)
        with pytest.raises(RunError):
            tiny_run(folder.path)
    folder.failure_file.write_text("augcam: the disk was full\n")
    assert folder.state() == "failed"
    monkeypatch.setattr("augcam.training.run.fit_and_test", die)
    with pytest.raises(Died):
        tiny_run(folder.path)
    assert folder.state() == "died"
    assert folder.problems() == []


def test_a_finished_run_is_left_alone(tmp_path):
    result = tiny_run(tmp_path / "run")
    before = {
        p: p.read_bytes()
        for p in (tmp_path / "run").rglob("*")
        if p.suffix != ".yaml" and p.is_file()
    }
    assert tiny_run(tmp_path / "run").metrics == json.loads(result.folder.metrics_file.read_text())
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize("overrides", [(), ("callbacks=[ema]", "callbacks.ema.decay=0.5")],
                         ids=["last weights", "averaged weights"])  # fmt: skip
def test_a_run_that_died_in_its_test_is_tested_on_the_same_network(
    tmp_path, monkeypatch, overrides
):
    def die(*_arguments):
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(predictions.TestPredictions, "on_test_batch_end", die)
        with pytest.raises(Died):
            tiny_run(tmp_path / "run", *overrides)
    whole, again = (tiny_run(tmp_path / name, *overrides) for name in ("whole", "run"))
    assert again.metrics["test"] == whole.metrics["test"]
    one, other = (np.load(result.folder.predictions_file) for result in (whole, again))
    assert np.array_equal(one["confidence"], other["confidence"])
