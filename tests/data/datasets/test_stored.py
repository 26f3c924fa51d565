"""Decoded images in a file: an array to who indexes it, and no more memory than what is asked for."""

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augcam.data.augment.pipeline import Pipeline
from augcam.data.datamodule import ImageDataModule
from augcam.data.datasets import folder as folder_module
from augcam.data.datasets.base import ImageSet
from augcam.data.datasets.folder import ImageFolder
from augcam.data.datasets.stored import StoredImages, decode
from augcam.errors import UserError

SIDE = 4


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def stored(cache: Path, read=picture, count: int = 50, key: str = "k") -> StoredImages:
    images = decode(read, count, SIDE, memory=100, cache=cache, key=key)
    assert isinstance(images, StoredImages)
    return images


class TestStoredImages:
    @pytest.mark.parametrize(
        "index",
        [
            3, -1, np.int64(7), slice(5, 9), slice(None, None, 7), slice(0, 0),
            np.array([4, 4, 2]), [1, 0], np.arange(0), np.arange(50) % 3 == 0,
        ],
    )  # fmt: skip
    def test_it_is_indexed_as_an_array(self, tmp_path, index):
        array = np.stack([picture(number) for number in range(50)])
        images = stored(tmp_path)
        assert (images.shape, images.dtype, images.ndim) == (array.shape, array.dtype, array.ndim)
        assert len(images) == 50
        result = images[index]
        assert type(result) is np.ndarray
        assert result.dtype == np.uint8
        assert np.array_equal(result, array[index])
        result[...] = 0  # a copy: the file stays
        assert np.array_equal(images[index], array[index])

    def test_rows_of_rows_are_not_read(self, tmp_path):
        images = stored(tmp_path)
        chosen = images.rows(np.array([9, 3, 30, 1])).rows(np.array([2, 0]))
        images.path.unlink()
        images.path.write_bytes(b"".join(picture(n).tobytes() for n in range(100, 150)))
        assert np.array_equal(chosen[:], np.stack([picture(130), picture(109)]))
        part = ImageSet(images, np.arange(50)).subset(np.array([5]))
        assert isinstance(part.images, StoredImages)
        assert np.array_equal(part.images[0], picture(105))

    def test_it_travels_to_a_worker_as_a_path(self, tmp_path):
        images = stored(tmp_path)
        content = pickle.dumps(images)
        assert len(content) < 1500  # the images have 2,400 bytes
        assert np.array_equal(pickle.loads(content)[:], images[:])

    @pytest.mark.parametrize("damage", ["cut", "gone"])
    def test_a_file_that_was_damaged_meanwhile(self, tmp_path, damage):
        images = stored(tmp_path)
        if damage == "gone":
            images.path.unlink()
        else:
            images.path.write_bytes(images.path.read_bytes()[:-1])
        with pytest.raises(UserError, match="decoded images cannot be read"):
            _ = images[49]


class TestDecode:
    def test_what_fits_stays_in_memory_and_leaves_no_file(self, tmp_path):
        cache = tmp_path / "cache"
        images = decode(picture, 50, SIDE, memory=50 * SIDE * SIDE * 3, cache=cache, key="k")
        assert isinstance(images, np.ndarray)
        assert np.array_equal(images[7], picture(7))
        assert not cache.exists()

    def test_images_are_decoded_once(self, tmp_path):
        stored(tmp_path)

        def never(number: int) -> np.ndarray:
            raise AssertionError

        assert np.array_equal(stored(tmp_path, never)[3], picture(3))
        with pytest.raises(AssertionError):
            stored(tmp_path, never, key="other images")

    def test_a_stop_half_way_leaves_no_file_that_passes_for_whole(self, tmp_path):
        def stops(number: int) -> np.ndarray:
            if number == 40:
                raise KeyboardInterrupt
            return picture(number)

        with pytest.raises(KeyboardInterrupt):
            stored(tmp_path, stops)
        assert not list(tmp_path.glob("*.images*"))
        (tmp_path / ".k.images.4711").write_bytes(b"left by a kill")
        assert np.array_equal(stored(tmp_path)[49], picture(49))
        assert not list(tmp_path.glob(".*.images*"))

    def test_a_full_disk_is_known_before(self, tmp_path, monkeypatch):
        usage = type("Usage", (), {"free": 2399})
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=r"data\.cache=.*cannot hold.*data\.memory_gb"):
            stored(tmp_path)

    def test_a_cache_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"data\.cache="):
            stored(tmp_path / "file")


class TestFolderInAFile:
    @pytest.fixture
    def root(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / "images" / name).mkdir(parents=True)
            for number in range(20):
                noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(noise).save(tmp_path / "images" / name / f"{number}.png")
        return tmp_path / "images"

    def datasets(self, root):
        cache = root.parent / "cache"
        return ImageFolder(root, 8), ImageFolder(root, 8, memory_gb=1e-6, cache=cache)

    def test_training_batches_are_those_from_memory(self, root):
        batches = []
        for dataset in self.datasets(root):
            data = ImageDataModule(
                dataset, Pipeline({}, 1), batch_size=5, eval_batch_size=3, num_workers=0,
                holdout=0.2, seed=1,
            )  # fmt: skip
            data.setup("fit")
            data.setup("test")
            loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
            batches.append([batch for loader in loaders for batch in loader])
        for from_memory, from_file in zip(*batches, strict=True):
            assert np.array_equal(from_memory.images, from_file.images)
            assert np.array_equal(from_memory.labels, from_file.labels)

    def test_an_image_edited_in_place_is_decoded_anew(self, root, monkeypatch):
        _, dataset = self.datasets(root)
        dataset.train()
        monkeypatch.setattr(
            folder_module, "read_image", lambda path, side: np.zeros((8, 8, 3), "u1")
        )
        _, again = self.datasets(root)
        assert again.train().images[:].any()  # of the file
        path = dataset._files["train"].paths[0]
        path.write_bytes(path.read_bytes())
        _, edited = self.datasets(root)
        assert not edited.train().images[:].any()


GROWTH = """
import resource, sys
import numpy as np
from pathlib import Path
from augcam.data.datasets.base import ImageSet
from augcam.data.datasets.stored import decode
from augcam.data.augment.pipeline import Pipeline
from augcam.data.loader import AugmentedBatches, EpochOrder

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

image, seen = np.ones((112, 112, 3), np.uint8), []
for count in (200, 3000):
    images = decode(lambda n: image, count, 112, memory=0, cache=Path(sys.argv[1]), key=str(count))
    batches = AugmentedBatches(
        ImageSet(images, np.zeros(count, np.int64)).subset(np.arange(count)), Pipeline({}, 1)
    )
    for request in EpochOrder(count, 32, seed=1):
        batches[request]
    seen.append(peak())
print(*seen)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_peak_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """3,000 images of 112 pixels have 113 MB; decoded and gone through, they cost less than 20."""
    assert resource.RUSAGE_SELF == 0
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=True
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 20
