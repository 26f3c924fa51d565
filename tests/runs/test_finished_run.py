"""A run knows its images: added, removed or edited ones are refused by all that would use them."""

import json
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress

from augcam.config.build import trust
from augcam.config.compose import compose
from augcam.config.schema import Config, validate
from augcam.errors import UserError
from augcam.runs.build import build_source
from augcam.runs.finished_run import open_run
from augcam.runs.run_folder import RunFolder
from augcam.training.run import train

SMALL = [
    "model=resnet10", "model.width=8", "data.num_workers=0", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "explain.images=0", "preview.samples=0", "aug=cutout",
    "aug.cutout.hole_height_range=[2,4]", "aug.cutout.hole_width_range=[2,4]",
]  # fmt: skip


def config_of(*overrides: str) -> Config:
    return validate(compose([*SMALL, *overrides]))


def of_folder(root: Path) -> Config:
    return config_of(
        "data=folder", f"data.root={root}", "data.image_size=16", "data.batch_size=8",
        "trainer.max_epochs=1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `images`, and `run`, which was trained on them."""
    place = tmp_path_factory.mktemp("study")
    for label, name in enumerate(("a", "b")):
        (place / "images" / name).mkdir(parents=True)
        for number in range(20):
            noise = np.random.default_rng([label, number]).integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(noise).save(place / "images" / name / f"{number}.png")
    config = of_folder(place / "images")
    folder = RunFolder(place / "run")
    folder.save_config(config)
    train(config, folder)
    return place


@pytest.fixture
def study(trained, tmp_path) -> Path:
    """A copy of it to change."""
    shutil.copytree(trained, tmp_path / "study")
    folder = RunFolder(tmp_path / "study" / "run")
    folder.save_config(of_folder(tmp_path / "study" / "images"))
    return tmp_path / "study"


def opened(study: Path):
    return open_run(RunFolder(study / "run"), "last", Progress(disable=True))


def add_an_image(study: Path) -> None:
    shutil.copy(study / "images" / "a" / "0.png", study / "images" / "a" / "new.png")


def forget_fingerprint(study: Path) -> None:
    """What a run folder of an earlier version has."""
    folder = RunFolder(study / "run")
    metrics = folder.metrics()
    del metrics["data_fingerprint"]
    folder.write_metrics(metrics)
    checkpoint = torch.load(folder.last, weights_only=True)
    del checkpoint["ImageDataModule"]["fingerprint"]
    torch.save(checkpoint, folder.last)


def test_the_fingerprint_is_kept_in_metrics_and_checkpoint(study):
    folder = RunFolder(study / "run")
    fingerprint = build_source(folder.config()).fingerprint()
    assert json.loads(folder.metrics_file.read_text())["data_fingerprint"] == fingerprint
    checkpoint = torch.load(folder.last, weights_only=True)
    assert checkpoint["ImageDataModule"]["fingerprint"] == fingerprint


def test_a_finished_run_opens_on_its_images_alone(study):
    before = opened(study)
    assert len(before.labels) == len(before.predicted)
    add_an_image(study)
    with pytest.raises(UserError) as caught:
        opened(study)
    assert "the images have changed since run=" in str(caught.value)
    assert str(study / "images") in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    (study / "images" / "a" / "new.png").unlink()
    assert np.array_equal(opened(study).predicted, before.predicted)


def test_of_images_that_have_moved_it_asks_where_to(study):
    there = (study / "images").rename(study / "moved")
    with pytest.raises(UserError, match=r"images: cannot be read.*\ndata\.root=DIR says where"):
        opened(study)
    folder = RunFolder(study / "run")
    folder.data_root = there
    assert len(open_run(folder, "last", Progress(disable=True)).labels) > 0


def test_an_unfinished_run_asks_its_checkpoint(study):
    (study / "run" / "metrics.json").unlink()
    opened(study)
    add_an_image(study)
    with pytest.raises(UserError, match="images have changed"):
        opened(study)


def test_a_stopped_run_does_not_go_on_with_other_images(study):
    (study / "run" / "metrics.json").unlink()
    add_an_image(study)
    config = of_folder(study / "images")  # as it was begun: stopped before its test
    with pytest.raises(UserError, match="images have changed since"):
        train(config, RunFolder(study / "run"))
    assert not (study / "run" / "metrics.json").exists()


def test_a_run_of_an_earlier_version_stays_usable(study):
    forget_fingerprint(study)
    predicted = opened(study).predicted
    assert len(predicted) > 0


def test_a_run_folder_does_not_say_where_decoded_images_are_written(study, monkeypatch):
    file = study / "run" / ".hydra" / "config.yaml"
    kept = file.read_text()
    assert "cache:" in kept
    lines = [f"  cache: {study}/elsewhere" if "cache:" in x else x for x in kept.splitlines()]
    lines = ["  memory_gb: 0" if "memory_gb:" in line else line for line in lines]
    file.write_text("\n".join(lines))
    monkeypatch.setenv("AUGCAM_CACHE", str(study / "cache"))
    assert np.array_equal(opened(study).images[:], opened(study).images[:])
    assert list((study / "cache").glob("*.images"))
    assert not (study / "elsewhere").exists()


def test_a_data_set_of_ones_own_is_one_file_and_one_config(tmp_path, monkeypatch):
    (tmp_path / "ownset.py").write_text(
        textwrap.dedent("""
        import numpy as np
        from augcam.data.datasets.base import ImageSet

        class Halves:
            classes = ("top", "bottom")
            mean, std = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)

            def __init__(self, size):
                self.size = size

            def prepare(self):
                pass

            def fingerprint(self):
                return f"halves {self.size}"

            def train(self):
                images = np.zeros((self.size, 16, 16, 3), np.uint8)
                labels = np.arange(self.size) % 2
                for image, label in zip(images, labels):
                    image[8 * label : 8 * label + 8] = 255
                return ImageSet(images, labels)

            test = train

        def not_a_class():
            pass
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    raw = compose([*SMALL, "data=shapes", "trainer.max_epochs=1"])
    raw.data = {
        "_target_": "ownset.Halves", "name": "halves", "size": 40, "batch_size": 8,
        "eval_batch_size": 8, "num_workers": 0, "holdout": 0.2,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"trust=\[mypackage\]"):
        validate(raw)
    raw.trust = ["ownset"]
    config = validate(raw)
    trust(config.trust)
    folder = RunFolder(tmp_path / "run")
    folder.save_config(config)
    metrics = train(config, folder).metrics
    assert (metrics["data"], metrics["data_fingerprint"]) == ("halves", "halves 40")
    assert len(open_run(folder, "last", Progress(disable=True)).labels) == 40
    raw.data["_target_"] = "ownset.not_a_class"
    with pytest.raises(UserError, match=r"is not a data set .missing: prepare"):
        build_source(validate(raw))
