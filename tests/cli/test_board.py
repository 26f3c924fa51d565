"""`augcam board`: TensorBoard, on this machine alone."""

import pytest

from augcam.cli import board
from augcam.cli.main import main


def test_board_starts_tensorboard_for_this_machine_alone(tmp_path, monkeypatch):
    started: list[list[str]] = []
    monkeypatch.setattr(board.os, "execv", lambda path, words: started.append(words))
    main(["board", str(tmp_path), "port=6007"])
    (words,) = started
    assert words[1:3] == ["-m", "tensorboard.main"]
    for flag, value in (
        ("--logdir", str(tmp_path)), ("--host", "localhost"), ("--port", "6007"),
        ("--samples_per_plugin", "images=1000"),
    ):  # fmt: skip
        assert words[words.index(flag) + 1] == value


def test_board_takes_the_folder_of_a_sweeps_job(tmp_path, monkeypatch):
    """It is named aug=flip,seed=1, as an option would be; a run's last line names it."""
    started: list[list[str]] = []
    monkeypatch.setattr(board.os, "execv", lambda path, words: started.append(words))
    job = tmp_path / "aug=flip,seed=1"
    job.mkdir()
    main(["board", str(job)])
    assert started[0][started[0].index("--logdir") + 1] == str(job)


def test_board_without_a_folder_of_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["board"])
    assert ended.value.code == 2
    assert "outputs" in capsys.readouterr().err
