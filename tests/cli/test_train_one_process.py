"""One process works in a folder: a second is refused and leaves the first's files as they are."""

import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from augcam.cli import train as command
from augcam.cli.main import main
from augcam.config.schema import plain
from augcam.runs.run_folder import RunFolder
from tests.cli.test_train import TINY

NOON = datetime(2026, 11, 28, 12)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def status(*arguments: str) -> int:
    try:
        main(["train", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def begun(tmp_path, monkeypatch) -> RunFolder:
    """A run as it is in its first second: its process would now load torch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "train_in_words", _killed)
    assert status("hydra.run.dir=run", *TINY, "aug=cutout_rotate", "optim.lr=0.07") == 130
    return RunFolder(tmp_path / "run")


def _killed(*arguments: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_a_second_process_leaves_the_first_ones_files_alone(begun, capfd):
    before = files(begun.path)
    assert set(before) >= {".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"}
    with begun.locked():
        for intruder in (
            [f"hydra.run.dir={begun.path}", *TINY, "model.width=16", "seed=9"],
            [f"run={begun.path}"],
            [f"run={begun.path}", "optim.lr=1"],
            [f"hydra.run.dir={begun.path}", "data=shapes", "data.batch_size=0"],
        ):
            assert status(*intruder) == 2
            assert "another process is working in this folder" in capfd.readouterr().err
            assert files(begun.path) == before
            assert begun.state() == "running"
    assert begun.config().optim.lr == 0.07


def test_a_run_stopped_in_its_first_second_goes_on(begun):
    config = begun.config()  # nothing in it is left open
    assert (config.name, config.aug_name) == ("cutout_rotate", "cutout_rotate")
    assert config.scheduler.arguments()["max_lr"] == 0.07
    assert "${" not in begun.config_file.read_text()
    assert begun.overrides_file.read_text().splitlines()[-1] == "- optim.lr=0.07"
    assert status(f"run={begun.path}") == 130  # it comes as far as the first start did
    assert begun.config() == config


def test_before_it_has_trained_a_run_may_change_its_mind(begun):
    assert status(f"run={begun.path}", "optim.lr=0.01", "trainer.max_epochs=3") == 130
    assert begun.config().optim.lr == 0.01
    # How it began stays on record.
    assert "- optim.lr=0.07" in begun.overrides_file.read_text()


def test_a_folder_with_a_backslash_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "train_in_words", _killed)
    folder = RunFolder(tmp_path / "a\\b 'c' [/d]")
    folder.path.mkdir(parents=True)
    begun = RunFolder(tmp_path / "x")
    assert status("hydra.run.dir=x", *TINY) == 130
    os.rename(begun.path / ".hydra", folder.path / ".hydra")  # noqa: PTH104
    assert status(f"run={folder.path}") == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a\\b 'c' [", "x"]
    assert status("run=${oc.env:HOME}") == 2


def test_one_sweep_is_run_by_one_process(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "outputs" / "sweeps" / "study"
    sweep.mkdir(parents=True)
    (sweep / "multirun.yaml").write_text("the first one's")
    with FileLock(sweep / ".lock"):
        assert status("-m", *TINY, "seed=1,2", "sweep.name=study") == 2
    assert "another process is running this sweep" in capfd.readouterr().err
    assert {path.name for path in sweep.iterdir()} <= {"multirun.yaml", ".lock"}
    assert (sweep / "multirun.yaml").read_text() == "the first one's"


def test_a_name_never_leaves_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "train_in_words", _killed)
    for name in ("../../../esc", "..", "/etc/x", "[/x]", ".hidden", "a\\b"):
        assert status(*TINY, f"name='{name}'") == 130
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    runs = list((tmp_path / "outputs").iterdir())
    assert len(runs) == 6
    assert all((run / ".hydra" / "config.yaml").is_file() for run in runs)


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "train_in_words", _killed)
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: NOON))
    assert status(*TINY, "aug=flip") == status(*TINY, "aug=flip") == 130
    names = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert len(names) == 2
    assert {name.rpartition("_")[0] for name in names} == {"2026-11-28_12-00-00_flip"}


def test_a_home_folder_as_the_readme_writes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "train_in_words", _killed)
    words = ["data=folder", "data.root=~/flowers", "data.image_size=64", "hydra.run.dir=run"]
    assert status(*words) == 130
    assert plain(RunFolder(tmp_path / "run").config())["data"]["root"] == "~/flowers"
