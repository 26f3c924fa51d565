"""Whatever is in a run folder: what is wrong is named, and no half is taken for a whole."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augcam.errors import UserError
from augcam.report.load import read_study
from augcam.report.read_run import read_metrics
from augcam.runs.run_folder import RunFolder
from tests.faults.spoilt import bytes_spoilt, value_spoilt
from tests.report.conftest import write_evaluation, write_run

FILES = (
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "metrics.json",
    "test_predictions.npz", "evaluation.json", "evaluation.npz",
)  # fmt: skip
TREES = ("metrics.json", "evaluation.json")


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
@given(harm=st.one_of(bytes_spoilt(FILES), value_spoilt(TREES), array_harm()))
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
