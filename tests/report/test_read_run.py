"""Whatever is in a run folder: what is wrong is named, and no half is taken for a whole."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augcam.errors import UserError
from augcam.report.load import read_study
from augcam.report.read_run import read_metrics
from augcam.runs.run_folder import RunFolder
from tests.report.conftest import write_evaluation, write_run

FILES = (
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "metrics.json",
    "test_predictions.npz", "evaluation.json", "evaluation.npz",
)  # fmt: skip
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]),
    st.just({}), st.just([[1], 2]), st.just({"x": None}), st.just(1e400), st.just(10**400),
)  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Two whole runs with evaluations: one stays as it is, the other is harmed."""
    folder = tmp_path_factory.mktemp("template")
    for name, seed in (("good", 1), ("harmed", 2)):
        run = write_run(folder / name, "aug=none", f"seed={seed}")
        write_evaluation(run, np.random.default_rng(seed).normal(size=(12, 4, 4)))
        (run.path / ".hydra" / "hydra.yaml").write_text("hydra: {mode: RUN}\n")
        (run.path / ".hydra" / "overrides.yaml").write_text("- aug=none\n")
    return folder


@st.composite
def byte_harm(draw):
    """A file cut short, with bytes changed, put in, doubled, or replaced by a folder."""
    name = draw(st.sampled_from(FILES))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "double", "folder", "gone", "noise"]))
    where, byte = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=6))

    def harm(folder: Path) -> None:
        file = folder / name
        content = file.read_bytes()
        at = int(where * len(content))
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind != "gone":
            file.write_bytes({
                "cut": content[:at],
                "flip": content[:at] + byte + content[at + len(byte) :],
                "insert": content[:at] + byte + content[at:],
                "double": content + content[at:],
                "noise": byte,
            }[kind])  # fmt: skip

    return harm


@st.composite
def json_harm(draw):
    """One value of a JSON file replaced by another, or taken away."""
    name = draw(st.sampled_from(["metrics.json", "evaluation.json"]))
    steps, odd = draw(st.lists(st.integers(0, 20), min_size=1, max_size=4)), draw(ODD)
    remove = draw(st.booleans())

    def harm(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        node: Any = content
        parent: Any = None
        key: Any = None
        for step in steps:
            if isinstance(node, dict) and node:
                parent, key = node, sorted(node)[step % len(node)]
            elif isinstance(node, list) and node:
                parent, key = node, step % len(node)
            else:
                break
            node = parent[key]
        assert parent is not None
        if remove:
            del parent[key]
        else:
            parent[key] = odd
        (folder / name).write_text(json.dumps(content))

    return harm


@st.composite
def array_harm(draw):
    """One array of an .npz with another type, shape or value, or without its rest."""
    name = draw(st.sampled_from(["test_predictions.npz", "evaluation.npz"]))
    which, at = draw(st.integers(0, 4)), draw(st.integers(0, 59))
    kind = draw(st.sampled_from(
        ["gone", "short", "nan", "negative", "large", "flat", "scalar", "text", "empty", "deep"]
    ))  # fmt: skip

    def harm(folder: Path) -> None:
        with np.load(folder / name) as file:
            arrays = dict(file)
        key = sorted(arrays)[which % len(arrays)]
        old = arrays.pop(key)
        floats = kind == "nan" or old.dtype.kind == "f"
        changed = old.astype(np.float64 if floats else np.int64)
        if kind in ("nan", "negative", "large"):
            changed.flat[at % changed.size] = {"nan": np.nan, "negative": -1, "large": 10**6}[kind]
        new = {
            "short": old[: at % len(old)], "flat": old.reshape(-1), "scalar": np.float32(1),
            "text": np.array(["x"] * len(old)), "empty": old[:0], "deep": old[None],
        }.get(kind, changed)  # fmt: skip
        np.savez(folder / name, **(arrays if kind == "gone" else arrays | {key: new}))

    return harm


@settings(
    max_examples=250, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(harm=st.one_of(byte_harm(), json_harm(), array_harm()))
def test_one_harmed_folder_breaks_no_study(template, tmp_path, harm):
    folder = tmp_path / "study"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    harm(folder / "harmed")
    try:
        study = read_study([folder])
    except UserError as error:  # whole, but of other data: which of the two is meant is asked
        if "cannot be compared" not in str(error):
            raise
        return
    used = {run.folder.path.name: run for runs in study.groups.values() for run in runs}
    assert "good" in used
    if "harmed" not in used:
        (reason,) = (why for left, why in study.left_out if left.path.name == "harmed")
        assert reason
        assert "\n" not in reason
        return
    # Taken for whole: then what is used of it is.
    run = used["harmed"]
    test, predictions = run.metrics["test"], run.predictions
    assert 0 <= test["accuracy"] <= 1
    assert len(predictions.label) == len(predictions.predicted) == np.sum(test["confusion"]) == 60
    assert np.isfinite(predictions.confidence).all()
    if run.evaluation is None:
        whole = (folder / "harmed" / "evaluation.json").exists()
        assert not whole or any("evaluation" in note for note in study.notes)
    else:
        assert len(run.maps.index) == run.evaluation["images"] == len(run.maps.map_true)
        assert all(0 <= s <= 1 for row in run.evaluation["corruptions"].values() for s in row)
        run.maps.heat, run.maps.ranks, run.maps.usable  # noqa: B018 - they can be computed


def test_enormous_files_are_not_read(template, tmp_path, monkeypatch):
    shutil.copytree(template, tmp_path / "study")
    run = RunFolder(tmp_path / "study" / "harmed")
    monkeypatch.setattr("augcam.report.read_run.LARGEST_JSON", 10)
    with pytest.raises(UserError, match=r"metrics\.json has [\d,]+ bytes"):
        read_metrics(run)
    monkeypatch.undo()
    monkeypatch.setattr("augcam.report.read_run.LARGEST_ARRAYS", 10)
    study = read_study([run.path])
    assert "unpacks to" in study.left_out[0][1]


def test_a_zip_bomb_is_known_by_what_it_says_of_its_size(tmp_path):
    run = write_run(tmp_path / "bomb", "aug=none")
    with zipfile.ZipFile(run.predictions_file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("label", "predicted", "confidence"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": "<u2", "fortran_order": False, "shape": (2**50,)}
                np.lib.format.write_array_header_1_0(member, header)
    (reason,) = (why for _, why in read_study([tmp_path]).left_out)
    assert reason.startswith("damaged: test_predictions.npz")
