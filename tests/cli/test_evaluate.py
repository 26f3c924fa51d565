"""`augcam evaluate`: once per run, told when there is nothing to do, and bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from augcam.cli.evaluate import main
from augcam.config.schema import validate
from augcam.data.corruptions import CORRUPTIONS
from augcam.report.write import write_report
from augcam.runs.run_folder import RunFolder
from tests.cli.test_train import TINY
from tests.conftest import compose, evaluate, train_py
from tests.data.test_cifar10c import write_files
from tests.faults.command import Started


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    done = train_py(*TINY, "trainer.max_epochs=1", "aug=none", f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def folders(run, tmp_path_factory) -> dict[str, Path]:
    """The run, one without a checkpoint, and one whose images are gone."""
    bare, no_data = (tmp_path_factory.mktemp(name) for name in ("bare", "no_data"))
    RunFolder(bare).save_config(validate(compose(["name=x", *TINY])))
    RunFolder(no_data).save_config(
        validate(compose(["name=x", "data=folder", "data.root=/nowhere"]))
    )
    (no_data / "checkpoints").mkdir()
    (no_data / "checkpoints" / "last.ckpt").write_bytes(b"not looked at")
    return {"run": run, "bare": bare, "no_data": no_data}


@pytest.fixture(scope="module")
def evaluated(run) -> subprocess.CompletedProcess[str]:
    done = evaluate(f"run={run}", "n=30", "samples=10")
    assert done.returncode == 0, done.stderr
    return done


def test_the_report_shows_what_evaluate_measured(run, evaluated, tmp_path):
    record = json.loads((run / "evaluation.json").read_text())
    text = write_report([run], out=tmp_path).with_suffix(".md").read_text()
    robustness = text.split("## Robustness\n")[1].split("\n## ")[0]
    assert "30 of 60 test images, a stratified choice (seed 0)" in robustness
    assert f"{len(CORRUPTIONS)} corruptions at 5 severities" in robustness
    clean, corrupted = record["accuracy"], np.mean(list(record["corruptions"].values()))
    assert f"| none | 1 | {100 * clean:.1f} | {100 * corrupted:.1f} | 100.0 | 100.0 |" in robustness
    looks = text.split("## Where each network looks\n")[1].split("\n## ")[0]
    assert f"{record['maps']['concentration']['mean']:.3f} ± " in looks


def test_a_finished_run_is_evaluated_once(run, evaluated, tmp_path):
    done = evaluated
    files = [run / "evaluation.json", run / "evaluation.npz"]
    record = json.loads(files[0].read_text())
    assert ["accuracy,", "severity", "1", "2", "3", "4", "5"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    for name, accuracies in record["corruptions"].items():
        # Among them may be lines of progress, which come every ten seconds.
        rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith(name)]
        assert [f"{accuracy:.1%}" for accuracy in accuracies] in rows
    assert f"30 of 60 test images: accuracy {record['accuracy']:.1%}" in done.stdout
    # The network is the run's own: it says of each image what it said at the end of the training.
    with np.load(files[1]) as maps, np.load(run / "test_predictions.npz") as predictions:
        said = predictions["predicted"][maps["index"]]
        assert (maps["probabilities"].argmax(axis=1) == said).mean() > 0.9
        assert (maps["label"] == predictions["label"][maps["index"]]).all()

    # A sweep's folder is all its finished runs: here the one that was just evaluated.
    above = evaluate(f"run={run.parent}", "n=30", "samples=10")
    assert above.returncode == 0
    assert above.stdout.strip() == f"already evaluated: {files[0]}"

    before = [path.stat().st_mtime_ns for path in files]
    again = evaluate(f"run={run}", "n=30", "samples=10")
    assert again.returncode == 0
    assert again.stdout.strip() == f"already evaluated: {files[0]}"
    assert [path.stat().st_mtime_ns for path in files] == before

    copy = shutil.copytree(run, tmp_path / "run")
    other = evaluate(f"run={copy}", "n=20", "samples=10")
    assert other.returncode == 0
    assert json.loads((copy / "evaluation.json").read_text())["images"] == 20


def test_everything_that_is_asked_for_is_measured(tmp_path, monkeypatch):
    asked = []

    def measure(folder, **settings):
        asked.append((folder.path, settings | {"data_root": folder.data_root}))
        raise Started

    monkeypatch.setattr("augcam.cli.evaluate.measure_run", measure)
    run = RunFolder(tmp_path / "run")
    run.save_config(validate(compose(["name=x", *TINY])))
    run.checkpoints.mkdir()
    run.best.write_bytes(b"not looked at")
    official = write_files(tmp_path / "C")
    with pytest.raises(Started):
        main(
            [f"run={run.path}", "n=30", "samples=12", "seed=5", "checkpoint=best",
             f"corruptions={official}", f"data.root={tmp_path}"]
        )  # fmt: skip
    ((folder, settings),) = asked
    del settings["progress"]
    assert settings.pop("data_root") == tmp_path
    assert folder == run.path
    assert settings.pop("official").folder == official
    assert settings == {"n": 30, "samples": 12, "seed": 5, "checkpoint": "best"}


def test_nothing_heavy_is_imported_to_say_that_it_is_done():
    code = "import sys, augcam.evaluate; print({'torch', 'albumentations'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["run", "must be given"]),
        (["run=nowhere"], ["nowhere", "not a run folder"]),
        (["run={run}", "n=9"], ["n=9", "10"]),
        (["run={run}", "samples=some"], ["samples=some", "integer"]),
        (["run={run}", "checkpoint=first"], ["checkpoint=first", "best"]),
        (["run={run}", "sample=20"], ["sample", "samples"]),
        (["run={bare}"], ["last.ckpt", "has an epoch ended"]),
        (["run={no_data}"], ["/nowhere"]),
        (["run={run}", "corruptions=/nowhere"], ["corruptions=/nowhere", "no such folder"]),
        (
            ["run={run}", "corruptions={run}"],
            ["16 of 16 files", "gaussian_noise.npy", "CIFAR-10-C"],
        ),
    ],
)
def test_a_wrong_request_is_refused_in_words(folders, refusal, arguments, words):
    said = refusal("evaluate", *(argument.format(**folders) for argument in arguments))
    for word in words:
        assert word in said


def test_a_refused_process_ends_with_2():
    done = evaluate("run=nowhere")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("augcam: ")
