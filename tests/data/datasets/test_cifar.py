"""CIFAR-10 and CIFAR-100 on disk: counts, names, downloads; a damaged file is never unpickled."""

import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from augcam.config.schema import validate
from augcam.data.datasets import cifar
from augcam.data.datasets.base import statistics
from augcam.data.datasets.cifar import CIFAR10, CIFAR100
from augcam.errors import UserError
from augcam.runs.build import build_source
from tests.conftest import CIFAR, compose, needs_cifar


class Sentinel:
    """Pickled, it makes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@needs_cifar
class TestCifar10:
    def test_counts_statistics_and_first_image(self):
        source = CIFAR10(CIFAR)
        source.prepare()
        train, test = source.train(), source.test()
        assert (train.images.shape, train.images.dtype) == ((50_000, 32, 32, 3), np.uint8)
        assert (test.images.shape, test.labels.dtype) == ((10_000, 32, 32, 3), np.int64)
        assert train.images[:].flags.c_contiguous
        assert np.array_equal(np.bincount(train.labels), [5000] * 10)
        assert np.array_equal(np.bincount(test.labels), [1000] * 10)
        mean, std = statistics(train.images[:])
        assert np.allclose(mean, source.mean, atol=5e-5)
        assert np.allclose(std, source.std, atol=5e-5)
        theirs = torchvision.datasets.CIFAR10(CIFAR, train=False)
        assert np.array_equal(theirs.data[::100], test.images[::100])
        assert list(source.classes) == theirs.classes
        assert theirs.targets == test.labels.tolist()

    @pytest.fixture
    def copy(self, tmp_path):
        """A root whose files are links to the real ones, so that one can be replaced."""
        folder = tmp_path / "root" / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for path in (CIFAR / folder.name).iterdir():
            (folder / path.name).symlink_to(path)
        return folder

    @pytest.mark.parametrize("damage", ["truncated", "altered"])
    @pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
    def test_a_damaged_file_is_named_and_never_unpickled(self, copy, tmp_path, name, damage):
        real, made = copy / name, tmp_path / "executed"
        content = pickle.dumps(Sentinel(made))
        pickle.loads(content).close()  # the sentinel works
        made.unlink()
        if damage == "truncated":
            content = real.read_bytes()[:5000]
        real.unlink()
        real.write_bytes(content)
        source = CIFAR10(copy.parent)
        with pytest.raises(UserError, match=f"{name}: truncated or altered"):
            source.test() if name == "test_batch" else source.train()
        assert not made.exists()

    def test_a_damaged_test_set_is_told_before_training(self, copy):
        (copy / "test_batch").unlink()
        (copy / "test_batch").write_bytes(b"nothing")
        with pytest.raises(UserError, match="test_batch"):
            CIFAR10(copy.parent).prepare()

    def test_nothing_is_written_where_the_files_are_there(self, copy):
        before = sorted(copy.parent.rglob("*"))
        CIFAR10(copy.parent).prepare()
        assert sorted(copy.parent.rglob("*")) == before

    def test_a_download_is_unpacked_into_place(self, tmp_path, monkeypatch):
        calls = []

        def download(url, root, extracted, filename, md5):
            calls.append((url, filename, md5))
            shutil.copytree(CIFAR / "cifar-10-batches-py", Path(extracted, "cifar-10-batches-py"))

        monkeypatch.setattr(cifar, "download_and_extract_archive", download)
        for _ in range(2):
            CIFAR10(tmp_path / "new").prepare()
        known = torchvision.datasets.CIFAR10
        assert calls == [(known.url, known.filename, known.tgz_md5)]
        assert not list((tmp_path / "new").glob(".cifar-10-*/"))


def test_no_network_says_where_the_archive_goes(tmp_path, monkeypatch):
    def download(*arguments):
        raise OSError("Name or service not known")

    monkeypatch.setattr(cifar, "download_and_extract_archive", download)
    with pytest.raises(UserError) as caught:
        CIFAR10(tmp_path).prepare()
    assert str(tmp_path / "cifar-10-python.tar.gz") in str(caught.value)
    assert "data=shapes" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        CIFAR10(tmp_path / "file").prepare()


def test_a_root_that_cannot_be_read(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(UserError, match="cannot be read"):
        CIFAR10(tmp_path).prepare()


def test_a_home_folder_is_spelt_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CIFAR10("~/data").root == tmp_path / "data"


class TestCifar100:
    """In a copy of its format, ten images a file, whose MD5s stand in for the published ones."""

    @pytest.fixture
    def root(self, tmp_path, monkeypatch):
        folder = tmp_path / "cifar-100-python"
        folder.mkdir()
        random = np.random.default_rng(0)
        self.planes = {
            name: random.integers(0, 256, (10, 3072), dtype=np.uint8) for name in ("train", "test")
        }
        contents: dict[str, dict[Any, Any]] = {
            name: {
                b"data": planes,
                b"fine_labels": list(range(90, 100)),
                b"coarse_labels": [0] * 10,
            }
            for name, planes in self.planes.items()
        }
        contents["meta"] = {"fine_label_names": [f"class {n}" for n in range(100)]}
        md5 = {}
        for name, content in contents.items():
            (folder / name).write_bytes(pickle.dumps(content))
            md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
        known = torchvision.datasets.CIFAR100
        monkeypatch.setattr(known, "train_list", [["train", md5["train"]]])
        monkeypatch.setattr(known, "test_list", [["test", md5["test"]]])
        monkeypatch.setattr(known, "meta", {**known.meta, "md5": md5["meta"]})
        return tmp_path

    def test_images_fine_labels_and_names(self, root):
        dataset = CIFAR100(root)
        dataset.prepare()
        train = dataset.train()
        assert np.array_equal(
            train.images[:], self.planes["train"].reshape(10, 3, 32, 32).transpose(0, 2, 3, 1)
        )
        assert train.labels.tolist() == list(range(90, 100))
        assert dataset.classes[99] == "class 99"
        assert np.allclose(dataset.mean, (train.images[:] / 255).mean(axis=(0, 1, 2)))
        assert dataset.fingerprint() != CIFAR10(root).fingerprint()

    @pytest.mark.parametrize("name", ["train", "test", "meta"])
    def test_a_damaged_file_is_named_and_never_unpickled(self, root, name):
        made = root / "executed"
        (root / "cifar-100-python" / name).write_bytes(pickle.dumps(Sentinel(made)))
        with pytest.raises(UserError, match=f"{name}: truncated or altered, .* CIFAR-100's"):
            _ = CIFAR100(root).mean  # verifies all three
        assert not made.exists()

    def test_a_config_leads_there(self, root):
        config = validate(compose(["data=cifar100", f"data.root={root}"]))
        assert build_source(config).classes[0] == "class 0"
