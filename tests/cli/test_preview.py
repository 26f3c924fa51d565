"""`augcam preview`: pictures, one page and a table, and a wrong request in words."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_train import TINY
from tests.conftest import CIFAR, ROOT, needs_cifar, preview, train_py

DATA = ["data=shapes", "data.train_size=300", "data.test_size=20", "data.holdout=50"]


def test_a_picture_of_each_pipeline_and_one_page_of_all(tmp_path):
    done = preview(
        *DATA, "aug=flip,none", "aug.flip.p=0,1", "samples=2", "draws=3", f"out={tmp_path / 'a b'}"
    )
    assert done.returncode == 2  # `none` has no flip, and nothing is written
    assert not (tmp_path / "a b").exists()

    done = preview(*DATA, "aug=flip", "aug.flip.p=0,1", "samples=2", "draws=3",
                   f"out={tmp_path / 'a b'}", env={**os.environ, "COLUMNS": "120"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "a b").iterdir()) == [
        "01_flip.png", "01_flip_thumbnails.png", "02_flip.png", "02_flip_thumbnails.png", "index.html",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [tmp_path / "a b"]
    grid = np.asarray(Image.open(tmp_path / "a b" / "02_flip.png"))
    # Two rows of four cells of 128 pixels; with p=1 every draw is the mirrored raw image.
    cells = [grid[-140:-20, x : x + 128] for x in (6, 140, 274, 408)]
    for cell in cells[1:]:
        np.testing.assert_array_equal(cell, cells[0][:, ::-1])
    page = (tmp_path / "a b" / "index.html").read_text()
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 4
    for words in ("aug.flip.p=0", "aug.flip.p=1", "changes nothing", "HorizontalFlip", "100.0%"):
        assert words in page
    assert str(tmp_path / "a b" / "index.html") in done.stdout
    lines = done.stdout.splitlines()
    assert any("100.0%" in line and "aug.flip.p=1" in line for line in lines)
    assert any("changes nothing" in line and "aug.flip.p=0" in line for line in lines)


def test_it_shows_what_a_run_will_show(tmp_path):
    overrides = [*TINY, "aug=cutout_rotate", "aug.rotate.limit=40", "seed=5"]
    run = tmp_path / "run"
    done = train_py(*overrides, "trainer.max_steps=1", f"hydra.run.dir={run}")
    assert done.returncode == 0, done.stderr
    done = preview(*overrides, f"out={tmp_path / 'preview'}")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        Image.open(tmp_path / "preview" / "01_cutout_rotate.png"),
        Image.open(run / "figures" / "augmentation_preview.png"),
    )


@needs_cifar
def test_every_pipeline_of_conf(tmp_path):
    done = preview("-m", "aug=glob(*)", f"data.root={CIFAR}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "previews").iterdir()
    names = sorted(path.stem for path in (ROOT / "conf" / "aug").glob("*.yaml"))
    pictures = sorted(p.stem for p in folder.glob("*.png") if "thumbnails" not in p.stem)
    assert [picture.partition("_")[2] for picture in pictures] == names
    page = (folder / "index.html").read_text()
    assert all(f"<h2>{name}</h2>" in page for name in names)
    assert "destroys" not in page
    assert "destroys" not in done.stdout


def test_help_is_told_without_importing_anything_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "augcam.preview", "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for words in ("aug=glob(*)", "samples=", "draws=", "out=", "aug.rotate.limit=5,15,30"):
        assert words in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "augcam.cli.preview" in imported  # the listing is there
    assert not imported & {"torch", "albumentations", "matplotlib", "pytorch_lightning"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["aug=cutot,flip,rotte"], ["cutot", "cutout", "rotte", "rotate"]),
        (["aug=rotate", "aug.rotate.limt=30"], ["aug.rotate.limt", "limit"]),
        (["aug=cutout", "+aug.cutout.max_holes=3"], ["max_holes", "num_holes_range"]),
        (["aug=rotate,flip", "aug.rotate._target_=albumentations.Rotat"], ["aug.rotate"]),
        (["aug=cutout", "aug.cutout.hole_height_range=[40,40]"], ["aug.cutout: CoarseDropout"]),
        (["aug=glob(zz*)"], ["glob(zz*)"]),
        (["samples=0"], ["samples=0"]),
        (["samples=99", "draws=x"], ["samples=99", "draws=x"]),
        (["data.holdout=400"], ["holdout=400"]),
        (["--cfg"], ["--cfg"]),
        (["nonsense=1"], ["nonsense"]),
        (["data=cifar10", "data.holdout=5000", "data.root={empty}"], ["CIFAR-10", "data=shapes"]),
        (["data=folder"], ["data.root"]),
        (["aug=flip", "out={file}"], ["out=", "another folder"]),
        (["aug=flip", "out={file}/below"], ["out=", "another folder"]),
    ],
)
def test_a_wrong_request_is_refused_in_words(tmp_path, monkeypatch, refusal, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("not a folder")
    given = [a.format(empty=tmp_path / "empty", file=tmp_path / "file") for a in arguments]
    # A choice can be given once, and a key of shapes to shapes alone.
    data = [] if any(a.startswith("data=") for a in given) else DATA
    data = [a for a in data if a.partition("=")[0] not in {g.partition("=")[0] for g in given}]
    out = [] if any(a.startswith("out=") for a in given) else [f"out={tmp_path / 'preview'}"]
    # A proxy that refuses every connection stands for a machine without network.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    said = refusal("preview", *data, *given, *out)
    for word in words:
        assert word in said
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "file"}
    assert (tmp_path / "file").read_text() == "not a folder"
