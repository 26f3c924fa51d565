"""A finished run's evaluation: what is measured, checked by other means, and what is kept."""

import errno
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from rich.console import Console
from rich.progress import Progress

from augcam.config.schema import validate
from augcam.data.cifar10c import STANDARD, open_cifar10c
from augcam.data.corruptions import CORRUPTIONS, corrupt
from augcam.errors import UserError
from augcam.evaluation import kept, measure_run, subset
from augcam.explain.faithfulness.baselines import centre_map, shuffled
from augcam.explain.faithfulness.concentration import concentration
from augcam.explain.faithfulness.insertion import insertion_deletion
from augcam.explain.faithfulness.maps import MapArray, cleaned, pixel_ranks
from augcam.runs.build import build_network
from augcam.runs.finished_run import FinishedRun, open_run
from augcam.runs.run_folder import RunFolder
from tests.conftest import batches_seen, compose
from tests.data.test_cifar10c import write_files
from tests.faults.command import Started

SETTINGS: dict[str, Any] = {"n": 40, "samples": 20, "seed": 3, "checkpoint": "last"}
TINY = [
    "name=x", "data=shapes", "data.train_size=40", "data.test_size=70", "data.holdout=0",
    "model=resnet10", "model.width=8",
]  # fmt: skip


def quiet() -> Progress:
    return Progress(console=Console(quiet=True), disable=True)


def write_run(folder: Path, *overrides: str, seed: int = 0) -> RunFolder:
    """A run folder with a network of random weights: nothing here depends on how good it is."""
    run = RunFolder(folder)
    run.save_config(validate(compose([*TINY, *overrides])))
    run.checkpoints.mkdir()
    torch.manual_seed(seed)
    network = build_network(run.config(), 10)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights}, run.last)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("evaluated") / "run")


@pytest.fixture(scope="module")
def record(run) -> dict[str, Any]:
    return measure_run(run, **SETTINGS, progress=quiet())


@pytest.fixture(scope="module")
def arrays(run, record) -> dict[str, np.ndarray]:
    with np.load(run.path / "evaluation.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def opened(run) -> FinishedRun:
    return open_run(run, "last", quiet())


def test_the_files_hold_what_was_agreed(run, record, arrays):
    assert json.loads((run.path / "evaluation.json").read_text()) == record
    assert {key: record[key] for key in (
        "checkpoint", "seed", "images", "test_images", "layer", "method",
    )} == {
        "checkpoint": "last", "seed": 3, "images": 40, "test_images": 70, "layer": "layer4",
        "method": "gradcam",
    }  # fmt: skip
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "index": ("int32", (40,)),
        "label": ("uint16", (40,)),
        "probabilities": ("float16", (40, 10)),
        "map_true": ("float32", (40, 4, 4)),
    }
    assert list(record["corruptions"]) == list(CORRUPTIONS)
    assert not [path.name for path in run.path.iterdir() if path.name.startswith(".evaluation")]


def test_accuracies_are_those_of_the_network_on_the_same_images(opened, record, arrays):
    index, label = arrays["index"], arrays["label"].astype(int)
    assert (label == opened.labels[index]).all()
    probabilities = opened.predict(opened.normalize(opened.images[index])).numpy()
    assert np.abs(probabilities - arrays["probabilities"]).max() < 1e-3
    assert record["accuracy"] == (probabilities.argmax(1) == label).mean()
    for name in ("gaussian_noise", "rotation"):
        for severity in (1, 5):
            right = 0
            for i in index:  # one at a time
                seen = corrupt(opened.images[i : i + 1], np.array([i]), name, severity, 3)
                right += int(opened.predict(opened.normalize(seen)).argmax()) == opened.labels[i]
            assert record["corruptions"][name][severity - 1] == right / 40


def test_the_checkpoint_that_is_asked_for_is_measured(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run")
    shutil.copy(run.last, run.best)
    opened = []

    def open_it(_folder, checkpoint, _progress):
        opened.append(checkpoint)
        raise Started

    monkeypatch.setattr("augcam.runs.finished_run.open_run", open_it)
    with pytest.raises(Started):
        measure_run(run, **SETTINGS | {"checkpoint": "best"}, progress=quiet())
    assert opened == ["best"]


def test_no_more_images_at_once_than_the_run_was_tested_with(tmp_path):
    run = write_run(tmp_path / "run", "data.test_size=30", "data.eval_batch_size=8")
    with batches_seen() as sizes:
        record = measure_run(run, **SETTINGS | {"n": 20, "samples": 10}, progress=quiet())
    assert record["images"] == 20
    assert max(sizes) == 8


def test_the_official_corruptions_are_measured_on_the_same_images(tmp_path):
    run = write_run(tmp_path / "run", "data.test_size=30")
    opened = open_run(run, "last", quiet())
    folder = write_files(tmp_path / "C", opened.labels)
    images = opened.images[np.arange(30)]
    fog = np.stack([255 - images // 5 * severity for severity in range(1, 6)])
    np.save(folder / "fog.npy", fog.reshape(-1, 32, 32, 3).astype(np.uint8))
    settings = SETTINGS | {"n": 20, "samples": 10}
    official = open_cifar10c(folder)
    plain = measure_run(run, **settings, progress=quiet())
    assert "cifar10c" not in plain
    assert kept(run, **settings, official=official) is None
    record = measure_run(run, **settings, progress=quiet(), official=official)
    assert record["corruptions"] == plain["corruptions"]
    found = record["cifar10c"]
    assert list(found["corruptions"]) == list(STANDARD)
    assert set(found["other_files"]) == {*STANDARD, "labels"}
    with np.load(run.path / "evaluation.npz") as arrays:
        index = arrays["index"]
    for severity in (1, 5):
        seen = opened.predict(opened.normalize(fog[severity - 1][index].astype(np.uint8)))
        right = (seen.argmax(1).numpy() == opened.labels[index]).mean()
        assert found["corruptions"]["fog"][severity - 1] == pytest.approx(right)
    # It need not be made again, neither with these files nor without any.
    assert kept(run, **settings, official=official) == record
    assert kept(run, **settings) == record
    np.save(folder / "fog.npy", np.zeros_like(np.load(folder / "fog.npy")))
    assert kept(run, **settings, official=open_cifar10c(folder)) is None


def test_official_files_of_another_test_set_are_refused(tmp_path):
    run = write_run(tmp_path / "run", "data.test_size=30")
    official = open_cifar10c(write_files(tmp_path / "C", np.zeros(30, int)))
    with pytest.raises(UserError, match="those of the test set"):
        measure_run(run, **SETTINGS, progress=quiet(), official=official)
    assert not run.evaluation_file.exists()


def test_calibration_error_by_its_definition(opened, record, arrays):
    probabilities = opened.predict(opened.normalize(opened.images[arrays["index"]])).numpy()
    sure, right = probabilities.max(1), probabilities.argmax(1) == arrays["label"]
    bins = np.ceil(sure * 15)
    gaps = [abs(sure[bins == b].sum() - right[bins == b].sum()) for b in np.unique(bins)]
    assert record["ece"] == pytest.approx(sum(gaps) / 40, abs=1e-5)


def test_maps_are_grad_cam_of_the_true_class(opened, arrays):
    inputs = opened.normalize(opened.images[arrays["index"]])
    oracle = LayerGradCam(opened.network, opened.network.layer4)
    true = torch.from_numpy(arrays["label"].astype(int))
    expected = oracle.attribute(inputs, target=true).detach()[:, 0].numpy()
    assert np.abs(arrays["map_true"] - expected).max() < 1e-4 * np.abs(expected).max()


def test_measures_of_the_maps(opened, record, arrays):
    maps = record["maps"]
    assert [maps[name]["n"] for name in ("insertion", "deletion", "concentration")] == [20, 20, 40]
    summaries = [maps[name] for name in ("insertion", "deletion", "concentration")]
    summaries += [one for excess in maps["excess"].values() for one in excess.values()]
    assert all(found["low"] <= found["mean"] <= found["high"] for found in summaries)
    gini = concentration(arrays["map_true"])
    assert maps["concentration"]["mean"] == pytest.approx(gini.mean())
    assert record["degenerate"] == (arrays["map_true"].max(axis=(1, 2)) <= 0).sum()
    # On a stratified part of the images, from the maps that were kept; in other batches.
    chosen = subset(arrays["label"], 20, 3)
    index = arrays["index"][chosen]
    raw = torch.from_numpy(arrays["map_true"][chosen]).relu()
    large = torch.nn.functional.interpolate(raw[:, None], (32, 32), mode="bilinear")[:, 0]
    # The excess is over maps of the same images: the own cells shuffled, and a Gaussian.
    cells = torch.from_numpy(shuffled(raw, seed=3))
    random = torch.nn.functional.interpolate(cells[:, None], (32, 32), mode="bilinear")[:, 0]
    orders: dict[str, MapArray] = {
        "map": large,
        "random": random,
        "centre": centre_map(torch.zeros(20, 3, 32, 32)),
    }
    curves = insertion_deletion(
        opened.predict, opened.normalize(opened.images[index]),
        {name: pixel_ranks(cleaned(one)[0], seed=3) for name, one in orders.items()},
        torch.from_numpy(opened.labels[index]), batch=7,
    )  # fmt: skip
    found = curves["map"]
    assert maps["insertion"]["mean"] == pytest.approx(found.insertion.mean(), abs=1e-3)
    assert maps["deletion"]["mean"] == pytest.approx(found.deletion.mean(), abs=1e-3)
    for name in ("random", "centre"):
        for measure in ("insertion", "deletion"):
            expected = (getattr(found, measure) - getattr(curves[name], measure)).mean()
            assert maps["excess"][name][measure]["mean"] == pytest.approx(expected, abs=1e-3)
            assert maps["excess"][name][measure]["n"] == 20


def test_runs_on_one_data_set_share_the_images(tmp_path, run, record, arrays):
    other = write_run(tmp_path / "other", "aug=rotate", seed=1)
    measure_run(other, **SETTINGS, progress=quiet())
    with np.load(other.path / "evaluation.npz") as file:
        assert (file["index"] == arrays["index"]).all()
        assert (file["probabilities"] != arrays["probabilities"]).any()


def test_the_subset_is_stratified_nested_and_of_the_seed():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    chosen = subset(labels, 100, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [60, 30, 10]
    assert (np.diff(chosen) > 0).all()
    assert (chosen == subset(labels, 100, seed=0)).all()
    assert (chosen != subset(labels, 100, seed=1)).any()
    assert set(subset(labels, 30, seed=0)) < set(chosen)
    assert (subset(labels, 2000, seed=0) == np.arange(1000)).all()
    for n in (1, 7, 55, 999):
        counts = np.bincount(labels[subset(labels, n, seed=2)], minlength=3)
        assert counts.sum() == n
        assert (abs(counts - n * np.array([0.6, 0.3, 0.1])) <= 1).all()


def test_kept_only_for_the_same_request_weights_and_layer(tmp_path):
    folder = write_run(tmp_path / "run")
    assert kept(folder, **SETTINGS) is None
    made = measure_run(folder, **SETTINGS, progress=quiet())
    assert kept(folder, **SETTINGS) == made
    shutil.copy(folder.last, folder.best)
    for change in ({"n": 41}, {"samples": 21}, {"seed": 4}, {"checkpoint": "best"}):
        assert kept(folder, **(SETTINGS | change)) is None

    config = folder.config_file.read_text()
    folder.config_file.write_text(config.replace("layer: auto", "layer: layer3"))
    assert kept(folder, **SETTINGS) is None
    folder.config_file.write_text(config)

    weights = folder.last.read_bytes()
    write_run(tmp_path / "other", seed=1).last.replace(folder.last)
    assert kept(folder, **SETTINGS) is None
    folder.last.write_bytes(weights)  # the same weights, at another time
    assert kept(folder, **SETTINGS) == made

    npz = folder.path / "evaluation.npz"
    npz.rename(npz.with_suffix(".away"))
    assert kept(folder, **SETTINGS) is None
    npz.with_suffix(".away").rename(npz)
    (folder.path / "evaluation.json").write_text('{"checkpoint": "last", ')
    assert kept(folder, **SETTINGS) is None


@pytest.fixture
def never_opened(monkeypatch):
    """Opening the run, which comes before minutes of work, is a failure."""

    def fail(*_):
        raise AssertionError("the run was opened")

    monkeypatch.setattr("augcam.runs.finished_run.open_run", fail)


def test_a_folder_in_the_way_of_a_file_is_refused_before_the_work(tmp_path, never_opened):
    folder = write_run(tmp_path / "run")
    (folder.path / "evaluation.npz").mkdir()
    with pytest.raises(UserError, match=r"evaluation\.npz: a folder is in the way"):
        measure_run(folder, **SETTINGS, progress=quiet())


def test_a_second_evaluation_of_one_run_is_refused_while_the_first_works(tmp_path, never_opened):
    folder = write_run(tmp_path / "run")
    with (
        folder.locked("evaluate"),
        pytest.raises(UserError, match="another process is working in this folder"),
    ):
        measure_run(folder, **SETTINGS, progress=quiet())


def test_what_a_killed_evaluation_left_is_removed_and_nothing_of_a_training(tmp_path, monkeypatch):
    monkeypatch.setattr("augcam.evaluation._measure", lambda *_: {})
    folder = write_run(tmp_path / "run")
    left = folder.path / ".evaluation.npz.12345"
    of_training = folder.checkpoints / ".last.ckpt.12345"
    for file in (left, of_training):
        file.write_bytes(b"half")
    measure_run(folder, **SETTINGS, progress=quiet())
    assert not left.exists()
    assert of_training.exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_takes_no_file_is_refused_before_the_work(
    tmp_path, monkeypatch, never_opened, number
):
    folder = write_run(tmp_path / "run")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(UserError, match=f"nothing can be written there .{os.strerror(number)}"):
        measure_run(folder, **SETTINGS, progress=quiet())
    assert not list(folder.path.glob(".evaluation*"))


@pytest.mark.parametrize("harm", ["half", "flipped", "an array missing", "a folder", "a list"])
def test_half_an_evaluation_is_not_taken_for_a_whole_one(tmp_path, run, record, harm):
    """`already evaluated`, it said, and the report could not read it."""
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    assert kept(RunFolder(folder), **SETTINGS) == record
    file = folder / "evaluation.npz"
    content = bytearray(file.read_bytes())
    if harm == "half":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    elif harm == "an array missing":
        with np.load(file) as old:
            np.savez(file, **{name: old[name] for name in old if name != "map_true"})
    elif harm == "a folder":
        file.unlink()
        file.mkdir()
    else:
        (folder / "evaluation.json").write_text("[]")
    assert kept(RunFolder(folder), **SETTINGS) is None


def test_a_run_tested_on_a_part_of_the_test_set_says_so_and_is_measured_like_the_others(
    tmp_path, arrays
):
    folder = write_run(tmp_path / "run")
    np.savez(
        folder.predictions_file,
        label=np.zeros(8, np.uint16), predicted=np.zeros(8, np.uint16),
        confidence=np.zeros(8, np.float16),
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=200)
    measure_run(folder, **SETTINGS, progress=Progress(console=console, disable=True))
    assert isinstance(console.file, io.StringIO)
    first = console.file.getvalue().splitlines()[0]
    assert "was tested on 8 of 70 test images (trainer.limit_test_batches)" in first
    assert "measured here are 40 of all 70" in first
    with np.load(folder.path / "evaluation.npz") as file:
        assert (file["index"] == arrays["index"]).all()


def test_a_diverged_network_is_refused(tmp_path):
    folder = write_run(tmp_path / "run")
    saved = torch.load(folder.last, weights_only=True)
    saved["state_dict"]["network.fc.bias"][:] = torch.nan
    torch.save(saved, folder.last)
    with pytest.raises(UserError, match=r"NaN for 40 of 40 images.*diverged"):
        measure_run(folder, **SETTINGS, progress=quiet())


def test_all_images_where_there_are_fewer(tmp_path):
    folder = write_run(tmp_path / "run", "data.test_size=30")
    made = measure_run(folder, n=1000, samples=200, seed=0, checkpoint="last", progress=quiet())
    assert made["images"] == made["test_images"] == made["maps"]["insertion"]["n"] == 30
