"""`augcam explain`: a finished run from its folder alone, own pictures, and bad input."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from augcam.cli.explain import PARTS, main
from augcam.explain.cam import METHODS
from augcam.runs.build import build_network
from augcam.runs.finished_run import open_run, untrained_network
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars
from tests.browser import assert_legible, laid_out, needs_chromium
from tests.cli.test_train import TINY
from tests.conftest import explain, train_py
from tests.faults.command import Started
from tests.test_evaluation import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    done = train_py(
        *TINY, "data.train_size=2000", "data.test_size=100", "trainer.max_epochs=5", "aug=none",
        "optim.lr=0.05", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def explained(run, tmp_path_factory) -> Path:
    """A copy of the run with every page that there is, the own picture one of 640 x 480."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("explain"))
    photo = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder / "photo.png")
    for asked in (
        ["n=1"],
        ["check=localisation,concentration", "samples=10"],
        [f"images={folder / 'photo.png'}"],
    ):
        main([f"run={folder / 'run'}", *asked, "layers=layer4"])
    return folder / "run"


def test_galleries_page_record_and_tensorboard(run):
    done = explain(f"run={run}", "n=2", "layers=layer3,layer4")
    assert done.returncode == 0, done.stderr
    out = run / "explain"
    names = {"index.html", "galleries.html", "galleries.json", "misclassified.png"}
    assert {p.name for p in out.iterdir()} >= names
    assert '<a href="galleries.html">' in (out / "index.html").read_text()
    page = (out / "galleries.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    report = json.loads((out / "galleries.json").read_text())
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
    report = json.loads((run / "explain" / "galleries.json").read_text())
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
    report = json.loads((run / "explain" / "pictures.json").read_text())
    shown = {Path(image["file"]).name for image in report["images"]}
    assert shown == {path.name for path in tmp_path.glob("good_*")}
    # Overlays at the picture's own size, not a stamp of the network's 32 pixels.
    with Image.open(run / "explain" / "pictures" / "001.png") as first:
        assert first.size == (5 * 60, 5 * 40)
    for path in tmp_path.glob("bad_*"):
        lines = [line for line in done.stderr.splitlines() if path.name in line]
        assert len(lines) == 1, path.name
    assert "Traceback" not in done.stderr


def test_checks_print_a_table_with_the_baselines(run):
    done = explain(
        f"run={run}", "check=localisation,concentration", "samples=20", "n=1", "layers=layer4"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((run / "explain" / "check.json").read_text())["checks"]
    assert {row["method"] for row in rows} >= {"gradcam", "layercam", "centre", "edge"}
    # Shuffled cells have as much of their mass on the object as the object has pixels.
    for row in rows:
        if row["measure"] == "localisation_energy" and row["layer"]:
            assert 0.05 < row["mean"] - row["over_random"] < 0.4


def test_a_fifth_method_is_one_function(run, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "activation", lambda activations, gradients: activations.sum(1))
    main([f"run={run}", "n=1", "layers=layer4"])
    main([f"run={run}", "check=all", "samples=12", "layers=layer4"])
    rows = json.loads((run / "explain" / "check.json").read_text())["checks"]
    measures = {row["measure"] for row in rows if row["method"] == "activation"}
    assert measures >= {"insertion", "road", "sanity_spearman", "localisation_pointing"}
    assert "activation layer4" in capsys.readouterr().out
    page = (run / "explain" / "check.html").read_text()
    assert "activation layer4" in page
    # What was made before is still there, and the index leads to all of it.
    index = (run / "explain" / "index.html").read_text()
    for part in ("check", "galleries"):
        assert (run / "explain" / f"{part}.html").is_file()
        assert f'<a href="{part}.html">' in index


@needs_chromium
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_every_page_and_what_leads_to_it(explained, tmp_path, width, scheme):
    pages = {page.stem: page for page in (explained / "explain").glob("*.html")}
    assert pages.keys() == {"index", *PARTS}
    for page in pages.values():
        assert_legible(laid_out(page, tmp_path, width, scheme), width, scheme)
    index = pages.pop("index").read_text()
    assert all(f'<a href="{name}.html">' in index for name in pages)
    assert all('<a href="index.html">' in page.read_text() for page in pages.values())
    with Image.open(explained / "explain" / "pictures" / "001.png") as overlay:
        assert overlay.size == (640, 480)


@pytest.mark.parametrize("part", ["galleries", "own pictures"])
def test_maps_are_of_the_checkpoint_and_by_the_method_that_are_asked_for(
    tmp_path, monkeypatch, part
):
    folder = write_run(tmp_path / "run", seed=0)
    other = write_run(tmp_path / "other", seed=1)
    shutil.copy(other.last, folder.best)
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    asked = []

    def explained(network, **settings):
        asked.append((network.get_parameter("fc.weight"), settings))
        raise Started

    monkeypatch.setattr("augcam.explain.rows.GradCAM", explained)
    words = [f"images={tmp_path}/photo.png"] if part == "own pictures" else []
    with pytest.raises(Started):
        main([f"run={folder.path}", "checkpoint=best", "method=hirescam", "layers=layer3", *words])
    ((weights, settings),) = asked
    saved = torch.load(other.last, weights_only=True)["state_dict"]
    assert torch.equal(weights.cpu(), saved["network.fc.weight"])
    assert settings == {"layers": ("layer3",), "method": "hirescam"}


def test_the_check_starts_from_weights_as_training_does(run):
    with progress_bars() as progress:
        opened = open_run(RunFolder(run), "last", progress)
    name = "layer4.0.conv2.weight"
    one, two, again = (untrained_network(opened, s).get_parameter(name).detach() for s in (0, 1, 0))
    # He, fan out: sqrt(2 / (9 * channels)); nn.Conv2d's own is a 2.4th of that.
    assert float(one.std()) == pytest.approx((2 / (9 * one.shape[0])) ** 0.5, rel=0.1)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    torch.manual_seed(opened.folder.config().seed)
    assert not torch.equal(one, build_network(opened.folder.config(), 10).get_parameter(name))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run=nowhere"], ["nowhere", "not a run folder"]),
        (["run={run}", "layers=layer9"], ["layer9", "layer4"]),
        (["run={run}", "layers=fc"], ["fc", "spatial"]),
        (["run={run}", "method=gradcm"], ["gradcm", "gradcam"]),
        (["run={run}", "classes=dog"], ["dog", "circle"]),
        (["run={run}", "images=/nothing/*.png"], ["/nothing/*.png", "no file"]),
        (["run={run}", "images=/"], ["images=/", "a folder"]),
        (["run={run}", "n=0"], ["n=0"]),
        (["run={run}", "layer=layer4"], ["layer", "layers"]),
        (["run={run}", "check=road2"], ["road2", "road"]),
        ([], ["run"]),
    ],
)
def test_a_wrong_request_is_refused_in_words(run, refusal, arguments, words):
    said = refusal("explain", *(argument.format(run=run) for argument in arguments))
    for word in words:
        assert word in said


def test_a_refused_process_ends_with_2():
    done = explain("run=nowhere")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("augcam: ")


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["missing", "half", "other", "bomb"])
def test_a_checkpoint_that_cannot_be_used(run, refusal, tmp_path, kind):
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
    assert "last.ckpt" in refusal("explain", f"run={folder}")
    assert not proof.exists()
