"""CIFAR-10-C: files in the official format are read where they are, and others are refused."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from augcam.data import cifar10c
from augcam.data.cifar10c import EXTRA, STANDARD, open_cifar10c
from augcam.errors import UserError

LABELS = np.arange(12) % 10


def write_files(folder: Path, labels=LABELS, size=(32, 32), names=STANDARD) -> Path:
    """Files in the official format: every pixel says which file, severity and image it is of."""
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        images = np.zeros((5, len(labels), *size, 3), np.uint8)
        images[..., 0] = number
        images[..., 1] = np.arange(1, 6)[:, None, None, None]
        images[..., 2] = np.arange(len(labels))[:, None, None]
        np.save(folder / f"{name}.npy", images.reshape(-1, *size, 3))
    np.save(folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return folder


def test_an_image_is_found_by_corruption_severity_and_place(tmp_path):
    official = open_cifar10c(write_files(tmp_path / "C", names=(*STANDARD, *EXTRA)))
    official.check(LABELS, (32, 32))
    assert official.names == (*STANDARD, *EXTRA)
    for number, name in ((0, "gaussian_noise"), (9, "fog"), (18, "saturate")):
        for severity in (1, 5):
            found = official.images(name, severity, np.array([0, 7, 11]))
            assert found.shape == (3, 32, 32, 3)
            assert found.dtype == np.uint8
            assert found[:, 5, 5].tolist() == [[number, severity, i] for i in (0, 7, 11)]


def test_the_extra_ones_may_be_missing(tmp_path):
    folder = write_files(tmp_path / "C", names=(*STANDARD, "spatter"))
    assert open_cifar10c(folder).names == (*STANDARD, "spatter")


def test_files_are_mapped_and_not_read(tmp_path):
    official = open_cifar10c(write_files(tmp_path / "C"))
    assert all(isinstance(file, np.memmap) for file in official._files.values())


def test_which_files_are_the_official_ones_is_told_by_their_md5(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "C")
    assert set(open_cifar10c(folder).others) == {*STANDARD, "labels"}
    sums = {
        name: hashlib.md5((folder / f"{name}.npy").read_bytes()).hexdigest()
        for name in (*STANDARD, "labels")
    }
    monkeypatch.setattr(cifar10c, "MD5", sums | {"fog": "0" * 32})
    assert open_cifar10c(folder).others == ("fog",)


def test_another_set_of_files_has_another_digest(tmp_path):
    one, same = (open_cifar10c(write_files(tmp_path / name)) for name in "ab")
    assert one.digest == same.digest
    fog = np.load(tmp_path / "b" / "fog.npy")
    fog[0, 0, 0, 0] ^= 1
    np.save(tmp_path / "b" / "fog.npy", fog)
    assert open_cifar10c(tmp_path / "b").digest != one.digest


def test_the_checksums_are_of_all_files_and_no_two_alike():
    assert set(cifar10c.MD5) == {*STANDARD, *EXTRA, "labels"}
    assert len(set(cifar10c.MD5.values())) == 20
    assert all(len(value) == 32 and int(value, 16) for value in cifar10c.MD5.values())


@pytest.mark.parametrize(
    ("labels", "size", "words"),
    [
        (np.roll(LABELS, 1), (32, 32), ["labels.npy", "another order"]),
        (LABELS[:11], (32, 32), ["11", "(60, 32, 32, 3)", "(55, 32, 32, 3)"]),
        (LABELS, (64, 64), ["(60, 32, 32, 3)", "(60, 64, 64, 3)"]),
    ],
)
def test_files_of_another_test_set_are_refused(tmp_path, labels, size, words):
    official = open_cifar10c(write_files(tmp_path / "C"))
    with pytest.raises(UserError) as error:
        official.check(labels, size)
    assert all(word in str(error.value) for word in words)


def no_folder(folder):
    (folder / "fog.npy").parent.rename(folder.parent / "elsewhere")


def one_missing(folder):
    (folder / "snow.npy").unlink()


def floats(folder):
    np.save(folder / "fog.npy", np.load(folder / "fog.npy") / 255)


def channels_first(folder):
    np.save(folder / "fog.npy", np.load(folder / "fog.npy").transpose(0, 3, 1, 2))


def fewer_images(folder):
    np.save(folder / "fog.npy", np.load(folder / "fog.npy")[:-5])


def no_fifth(folder):
    for path in folder.glob("*.npy"):
        np.save(path, np.load(path)[:-1])


def cut_short(folder):
    content = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(content[:-100])


def pickled(folder):
    array = np.empty(60, object)
    array[:] = [Path] * 60  # what np.load would have to unpickle
    np.save(folder / "labels.npy", array, allow_pickle=True)


def no_array(folder):
    (folder / "fog.npy").write_bytes(pickle.dumps({"fog": 1}))


def labels_as_text(folder):
    np.save(folder / "labels.npy", np.tile(LABELS, 5).astype(str))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_folder, ["no such folder"]),
        (one_missing, ["1 of 16", "snow.npy", "CIFAR-10-C.tar"]),
        (floats, ["fog.npy", "float64", "uint8"]),
        (channels_first, ["fog.npy", "(60, 3, 32, 32)", "(50000, 32, 32, 3)"]),
        (fewer_images, ["fog.npy", "(55, 32, 32, 3)"]),
        (no_fifth, ["(59, 32, 32, 3)"]),
        (cut_short, ["fog.npy", "not an array"]),
        (pickled, ["labels.npy", "not an array"]),
        (no_array, ["fog.npy", "not an array"]),
        (labels_as_text, ["labels.npy", "whole numbers"]),
    ],
)
def test_what_does_not_fit_is_refused_in_words(tmp_path, spoil, words):
    folder = write_files(tmp_path / "C")
    spoil(folder)
    with pytest.raises(UserError) as error:
        open_cifar10c(folder)
    assert all(word in str(error.value) for word in words), error.value
    assert len(str(error.value).splitlines()) <= 3
