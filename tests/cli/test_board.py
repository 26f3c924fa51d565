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


def test_board_says_where_the_pictures_and_the_curves_are(tmp_path, monkeypatch, capsys):
    """Addresses as TensorBoard 2.21 reads them: a tab, and a filter of its tags."""
    monkeypatch.setattr(board.os, "execv", lambda path, words: None)
    main(["board", str(tmp_path), "port=6007"])
    addresses = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert addresses == [
        "http://localhost:6007/#images&tagFilter=gradcam", "http://localhost:6007/#custom_scalars",
    ]  # fmt: skip
    # With a port of TensorBoard's own choice they are not known.
    main(["board", str(tmp_path), "port=0"])
    assert capsys.readouterr().out == ""
