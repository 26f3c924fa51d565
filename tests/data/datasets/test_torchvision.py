"""torchvision's sets by name: the two ways in which they name their splits, greys, sizes, refusals."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from augcam.config.schema import validate
from augcam.data.datasets.stored import StoredImages
from augcam.data.datasets.torchvision import TorchvisionDataset
from augcam.errors import UserError
from augcam.runs.build import build_source
from tests.conftest import compose


def idx(path: Path, array: np.ndarray) -> None:
    """MNIST's format: a header of big-endian sizes, then bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.tobytes())
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(path.read_bytes())


@pytest.fixture
def fashion(tmp_path):
    """FashionMNIST's files with 30 training and 10 test images of noise."""
    random = np.random.default_rng(0)
    raw, arrays = tmp_path / "FashionMNIST" / "raw", {}
    for split, name, count in (("train", "train", 30), ("test", "t10k", 10)):
        arrays[split] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        idx(raw / f"{name}-images-idx3-ubyte", arrays[split])
        idx(raw / f"{name}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return tmp_path, arrays


def test_a_set_with_a_train_flag_through_the_config(fashion):
    root, arrays = fashion
    config = validate(
        compose(["data=torchvision", "data.dataset=FashionMNIST", f"data.root={root}"])
    )
    dataset = build_source(config)
    dataset.prepare()
    train, test = dataset.train(), dataset.test()
    for part, split in ((train, "train"), (test, "test")):
        assert np.array_equal(part.images[:], np.repeat(arrays[split][..., None], 3, axis=-1))
        assert part.labels.tolist() == [n % 10 for n in range(len(part))]
    assert dataset.classes == tuple(torchvision.datasets.FashionMNIST.classes)
    assert np.allclose(dataset.mean, (train.images[:] / 255).mean(axis=(0, 1, 2)))
    again = TorchvisionDataset("FashionMNIST", root)
    assert dataset.fingerprint() == again.fingerprint()
    idx(root / "FashionMNIST/raw/t10k-images-idx3-ubyte", 255 - arrays["test"])
    assert dataset.fingerprint() != TorchvisionDataset("FashionMNIST", root).fingerprint()


def test_a_set_with_a_split_name_and_pictures_of_any_size(tmp_path, monkeypatch):
    """GTSRB's classes and files, as torchvision lays them out."""
    base = tmp_path / "gtsrb"
    for label in range(2):
        for number in range(4):
            path = base / "GTSRB" / "Training" / f"{label:05}" / f"{number}.ppm"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20 + number, 30), (label * 200, 0, 0)).save(path)
    test = base / "GTSRB" / "Final_Test" / "Images"
    test.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(3):
        Image.new("RGB", (25, 25), (0, 200, 0)).save(test / f"{number}.ppm")
        rows.append(f"{number}.ppm;25;25;0;0;25;25;{number % 2}")
    (base / "GT-final_test.csv").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"not square.*data\.image_size"):
        TorchvisionDataset("GTSRB", tmp_path).prepare()
    dataset = TorchvisionDataset("GTSRB", tmp_path, image_size=16)
    dataset.prepare()
    assert dataset.train().images.shape == (8, 16, 16, 3)
    assert dataset.train().labels.tolist() == [0] * 4 + [1] * 4
    assert dataset.test().labels.tolist() == [0, 1, 0]
    assert np.all(dataset.test().images == [0, 200, 0])
    large = TorchvisionDataset("GTSRB", tmp_path, 16, memory_gb=0, cache=tmp_path / "cache")
    assert isinstance(large.train().images, StoredImages)
    assert np.array_equal(large.train().images[:], dataset.train().images[:])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SVNH", "no such set; did you mean SVHN"),
        ("VOCDetection", "no training and test split"),
        ("os", "no such set"),
    ],
)
def test_a_set_that_is_none(name, words):
    with pytest.raises(UserError, match=words):
        TorchvisionDataset(name, ".")


def test_a_set_that_is_not_there_says_how_to_fetch_it(tmp_path):
    with pytest.raises(UserError, match=r"data\.download=true fetches it"):
        TorchvisionDataset("SVHN", tmp_path).prepare()
    assert not list(tmp_path.rglob("*.mat"))
