"""CIFAR-10 on disk, your own folder, the hold-out, and what damaged or missing data is told."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from sklearn.model_selection import StratifiedShuffleSplit

from augcam.data.datasets import cifar
from augcam.data.datasets.base import statistics
from augcam.data.datasets.cifar import CIFAR10
from augcam.data.datasets.folder import ImageFolder, read_image
from augcam.data.splits import stratified_holdout
from augcam.errors import UserError
from tests.conftest import CIFAR, needs_cifar


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
        assert train.images.flags.c_contiguous
        assert np.array_equal(np.bincount(train.labels), [5000] * 10)
        assert np.array_equal(np.bincount(test.labels), [1000] * 10)
        mean, std = statistics(train.images)
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
    for source in (CIFAR10(tmp_path / "file"), ImageFolder(tmp_path / "file", 8)):
        with pytest.raises(UserError, match="file"):
            source.prepare()


def test_a_root_that_cannot_be_read(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr(Path, "iterdir", denied)
    for source in (CIFAR10(tmp_path), ImageFolder(tmp_path, 8)):
        with pytest.raises(UserError, match="cannot be read"):
            source.prepare()


def test_statistics_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 7, 3), dtype=np.uint8)
    mean, std = statistics(images)
    assert np.allclose(mean, (images / 255).mean(axis=(0, 1, 2)))
    assert np.allclose(std, (images / 255).std(axis=(0, 1, 2)))
    assert statistics(np.zeros((1, 2, 2, 3), np.uint8))[1] == (1 / 255,) * 3


class TestHoldout:
    def test_shares_by_arithmetic(self):
        """10, 20 and 70 images, 25 held out: quotas 2.5, 5, 17.5; the tie goes to the first."""
        labels = np.repeat([0, 1, 2], [10, 20, 70])
        train, val = stratified_holdout(labels, 25, seed=0)
        assert np.bincount(labels[val]).tolist() == [3, 5, 17]
        assert sorted([*train, *val]) == list(range(100))

    @pytest.mark.parametrize("size", [1, 7, 50, 333])
    def test_sizes_agree_with_scikit_learn_within_one(self, size):
        labels = np.random.default_rng(0).choice(10, 1000, p=np.arange(1, 11) / 55)
        _, val = stratified_holdout(labels, size, seed=1)
        assert len(val) == size
        mine = np.bincount(labels[val], minlength=10)
        assert np.all(np.abs(mine - np.bincount(labels) * size / 1000) < 1)
        if size >= 10:
            splits = StratifiedShuffleSplit(1, test_size=size, random_state=0)
            _, theirs = next(splits.split(labels, labels))
            assert np.abs(mine - np.bincount(labels[theirs], minlength=10)).max() <= 1

    def test_cifar10s(self):
        labels = np.tile(np.arange(10), 5000)
        train, val = stratified_holdout(labels, 5000, seed=1)
        assert np.bincount(labels[val]).tolist() == [500] * 10
        assert len(train) == 45_000

    def test_it_follows_the_seed(self):
        labels = np.tile(np.arange(10), 100)
        one, again, other = (stratified_holdout(labels, 100, seed)[1] for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert len(set(one) & set(other)) < 30  # 10 by chance

    def test_none(self):
        train, val = stratified_holdout(np.arange(5), 0, seed=0)
        assert (len(train), len(val)) == (5, 0)

    @pytest.mark.parametrize("size", [-1, 49_991, 50_000, 60_000])
    def test_a_size_out_of_range_names_the_range(self, size):
        with pytest.raises(UserError, match=rf"holdout={size}.*0 to 49,990"):
            stratified_holdout(np.tile(np.arange(10), 5000), size, seed=0)


def write(path: Path, colour=(200, 10, 10), size=(40, 30), mode="RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


class TestImageFolder:
    def test_train_and_test_folders(self, tmp_path):
        for part, count in (("train", 3), ("test", 2)):
            for name, colour in (("cat", (250, 0, 0)), ("dog", (0, 250, 0))):
                for number in range(count):
                    write(tmp_path / part / name / f"{number}.png", colour)
        (tmp_path / "train" / "cat" / "notes.txt").write_text("left out")
        source = ImageFolder(tmp_path, image_size=16)
        source.prepare()
        assert source.classes == ("cat", "dog")
        train, test = source.train(), source.test()
        assert train.images.shape == (6, 16, 16, 3)
        assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert test.labels.tolist() == [0, 0, 1, 1]
        assert np.all(train.images[:3] == [250, 0, 0])
        assert np.all(test.images[2:] == [0, 250, 0])
        assert np.allclose(source.mean, [125 / 255, 125 / 255, 0])
        assert np.allclose(source.std[:2], 125 / 255)

    def test_class_folders_alone_are_split_80_to_20(self, tmp_path):
        for name, count in (("a", 20), ("b", 10)):
            for number in range(count):
                write(tmp_path / name / f"{number}.png", (number, 0, 0))
        first, again = ImageFolder(tmp_path, 8), ImageFolder(tmp_path, 8)
        train, test = first.train(), first.test()
        assert np.bincount(train.labels).tolist() == [16, 8]
        assert np.bincount(test.labels).tolist() == [4, 2]
        assert np.array_equal(again.test().images, test.images)
        for label in (0, 1):
            values = [set(part.images[part.labels == label][:, 0, 0, 0]) for part in (train, test)]
            assert not values[0] & values[1]

    def test_the_centre_square_of_the_short_side(self, tmp_path):
        """60x20, three squares side by side: only the middle one is left."""
        path = tmp_path / "wide.png"
        image = Image.new("RGB", (60, 20))
        for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
            image.paste(colour, (number * 20, 0, number * 20 + 20, 20))
        image.save(path)
        read = read_image(path, 10)
        assert read.shape == (10, 10, 3)
        assert np.all(read[:, 2:-2] == [0, 255, 0])

    @pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "CMYK", "LA"])
    def test_every_mode_becomes_rgb(self, tmp_path, mode):
        path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
        write(path, (255, 255, 255), mode=mode)
        assert np.all(read_image(path, 8) > 250)

    def test_sixteen_bits_are_scaled_and_not_clipped(self, tmp_path):
        Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "deep.png")
        assert np.all(read_image(tmp_path / "deep.png", 8) == 128)

    @pytest.mark.parametrize("part", ["train", "test"])
    @pytest.mark.parametrize("content", [b"", b"no image at all", None])
    def test_a_corrupt_file_is_named(self, tmp_path, part, content):
        for folder in ("train", "test"):
            for name in ("a", "b"):
                write(tmp_path / folder / name / "1.png", size=(200, 200))
        broken = tmp_path / part / "b" / "1.png"
        broken.write_bytes(broken.read_bytes()[:150] if content is None else content)
        source = ImageFolder(tmp_path, 8)
        with pytest.raises(UserError, match=str(broken)):
            source.train() if part == "train" else source.test()

    def test_one_class_is_no_task(self, tmp_path):
        write(tmp_path / "only" / "1.png")
        with pytest.raises(UserError, match=r"two folders or more.*found only/ alone"):
            ImageFolder(tmp_path, 8).prepare()

    def test_other_classes_in_test_than_in_train(self, tmp_path):
        for path in ("train/a", "train/b", "test/a", "test/c"):
            write(tmp_path / path / "1.png")
        with pytest.raises(UserError, match="same classes; only one of them has b, c"):
            ImageFolder(tmp_path, 8).prepare()

    def test_an_empty_class(self, tmp_path):
        write(tmp_path / "a" / "1.png")
        (tmp_path / "b").mkdir()
        with pytest.raises(UserError, match="b/ has no image"):
            ImageFolder(tmp_path, 8).prepare()

    def test_train_without_test(self, tmp_path):
        for name in ("a", "b"):
            write(tmp_path / "train" / name / "1.png")
        with pytest.raises(UserError, match="no test/"):
            ImageFolder(tmp_path, 8).prepare()

    def test_a_root_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match=r"nowhere.*cannot be read"):
            ImageFolder(tmp_path / "nowhere", 8).prepare()
