"""`python -m augcam.explain`: a finished run from its folder alone, own pictures, and bad input."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_train import TINY
from tests.conftest import explain, train_py


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    done = train_py(
        *TINY, "data.train_size=2000", "data.test_size=100", "trainer.max_epochs=5", "aug=none",
        "optim.lr=0.05", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_galleries_page_record_and_tensorboard(run):
    done = explain(f"run={run}", "n=2", "layers=layer3,layer4")
    assert done.returncode == 0, done.stderr
    out = run / "explain"
    assert {p.name for p in out.iterdir()} >= {"index.html", "explain.json", "misclassified.png"}
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    report = json.loads((out / "explain.json").read_text())
    with np.load(run / "test_predictions.npz") as saved:
        for image in report["images"]:
            index = image["index"]
            classes = json.loads((run / "metrics.json").read_text())["classes"]
            assert classes[saved["label"][index]] == image["true"]
            assert classes[saved["predicted"][index]] == image["predicted"]
            assert image["maps"]["layer4"]["cells"] == [4, 4]
    read = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert "explain/misclassified" in read.Tags()["images"]


def test_classes_narrow_the_galleries(run):
    done = explain(f"run={run}", "n=3", "classes=circle,ring", "layers=layer4")
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "explain" / "explain.json").read_text())
    assert {image["true"] for image in report["images"]} <= {"circle", "ring"}


def test_every_mode_of_picture_and_the_bad_ones_listed(run, tmp_path):
    base = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    for mode in ("RGB", "L", "CMYK", "1", "P"):
        base.convert(mode).save(tmp_path / f"good_{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
    base.convert("RGBA").save(tmp_path / "good_RGBA.png")
    deep = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "good_16.png")
    base.save(tmp_path / "bad_animated.gif", save_all=True, append_images=[base.rotate(90)])
    Image.new("RGB", (1, 1)).save(tmp_path / "bad_tiny.png")
    Image.new("1", (12_000, 10_000)).save(tmp_path / "bad_huge.png")
    (tmp_path / "bad_empty.png").write_bytes(b"")
    whole = (tmp_path / "good_RGB.png").read_bytes()
    (tmp_path / "bad_corrupt.png").write_bytes(whole[: len(whole) // 2])

    done = explain(f"run={run}", f"images={tmp_path}/*.*", "layers=layer4")
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "explain" / "explain.json").read_text())
    shown = {Path(image["file"]).name for image in report["images"]}
    assert shown == {path.name for path in tmp_path.glob("good_*")}
    for path in tmp_path.glob("bad_*"):
        lines = [line for line in done.stderr.splitlines() if path.name in line]
        assert len(lines) == 1, path.name
    assert "Traceback" not in done.stderr


def test_checks_print_a_table_with_the_baselines(run):
    done = explain(
        f"run={run}", "check=localisation,concentration", "samples=20", "n=1", "layers=layer4"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((run / "explain" / "explain.json").read_text())["checks"]
    assert {row["method"] for row in rows} >= {"gradcam", "layercam", "random", "centre", "edge"}
    # A random map has its maximum on the object as often as the object has pixels.
    (share,) = (
        row["mean"] for row in rows
        if row["method"] == "random" and row["measure"] == "localisation_energy"
    )  # fmt: skip
    assert 0.05 < share < 0.4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run=nowhere"], ["nowhere", "not a run folder"]),
        (["run={run}", "layers=layer9"], ["layer9", "layer4"]),
        (["run={run}", "layers=fc"], ["fc", "spatial"]),
        (["run={run}", "method=gradcm"], ["gradcm", "gradcam"]),
        (["run={run}", "classes=dog"], ["dog", "circle"]),
        (["run={run}", "images=/nothing/*.png"], ["/nothing/*.png", "no file"]),
        (["run={run}", "n=0"], ["n=0"]),
        (["run={run}", "layer=layer4"], ["layer", "layers"]),
        (["run={run}", "check=road2"], ["road2", "road"]),
        ([], ["run"]),
    ],
)
def test_a_wrong_request_is_refused_in_words(run, arguments, words):
    done = explain(*(argument.format(run=run) for argument in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    for word in words:
        assert word in done.stderr


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["missing", "half", "other", "bomb"])
def test_a_checkpoint_that_cannot_be_used(run, tmp_path, kind):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    proof = tmp_path / "executed"
    if kind == "missing":
        checkpoint.unlink()
    elif kind == "half":
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    elif kind == "other":
        torch.save({"state_dict": {"network.conv1.weight": torch.zeros(3)}}, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps({"state_dict": _Bomb(str(proof))}))
    done = explain(f"run={folder}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "last.ckpt" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert not proof.exists()
