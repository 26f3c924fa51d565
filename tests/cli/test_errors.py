"""Errors become a message and an exit status; a traceback is asked for."""

import sys

import pytest

from augcam.cli.errors import for_each, for_each_run, reported
from augcam.errors import RunError, UserError
from augcam.runs.run_folder import RunFolder


def ends_with(error: BaseException) -> int:
    with pytest.raises(SystemExit) as ended, reported():
        raise error
    return ended.value.code


def test_whose_fault_it_was_is_the_exit_status(capfd):
    assert ends_with(UserError("no such key")) == 2
    assert ends_with(RunError("the disk is full")) == 1
    assert ends_with(KeyboardInterrupt()) == 130
    assert capfd.readouterr().err == "augcam: no such key\naugcam: the disk is full\n"


def test_debug_shows_where(capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["augcam", "debug=True"])
    assert ends_with(ZeroDivisionError("by zero")) == 1
    assert "Traceback" in capfd.readouterr().err
    monkeypatch.setattr(sys, "argv", ["augcam"])
    assert ends_with(ZeroDivisionError("by zero")) == 1
    assert "Traceback" not in capfd.readouterr().err


def sweep_of(folder, names):
    for name in names:
        run = RunFolder(folder / name)
        run.config_file.parent.mkdir(parents=True)
        run.config_file.touch()
        run.write_metrics({"status": "finished"})


def test_a_run_that_cannot_be_worked_on_keeps_no_other_from_it(tmp_path, capfd):
    sweep_of(tmp_path, "abcde")
    done: list[str] = []

    def work(folder):
        if folder.path.name in "abcd":
            raise UserError(f"run={folder.path.name}: no last.ckpt\nhas an epoch ended?")
        done.append(folder.path.name)

    with pytest.raises(UserError) as raised:
        for_each_run(tmp_path, work)
    assert done == ["e"]
    assert str(raised.value).splitlines() == [
        "run=a: no last.ckpt", "has an epoch ended?", "run=b: no last.ckpt", "run=c: no last.ckpt",
        "run=d: no last.ckpt",
    ]  # fmt: skip
    assert capfd.readouterr().out.splitlines()[-1] == f"5/5  {tmp_path}/e"


def test_what_is_not_a_wrong_request_ends_the_sweep(tmp_path):
    sweep_of(tmp_path, "ab")
    done: list[str] = []

    def work(folder):
        done.append(folder.path.name)
        raise RunError("the disk is full")

    with pytest.raises(RunError):
        for_each_run(tmp_path, work)
    assert done == ["a"]


def test_of_many_problems_the_first_are_told_and_a_count():
    def refuse(number):
        raise UserError(f"no {number % 5}")

    with pytest.raises(UserError) as raised:
        for_each(refuse, range(10))
    assert str(raised.value).splitlines() == ["no 0", "no 1", "... and 3 more such problems"]
