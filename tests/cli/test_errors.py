"""Errors become a message and an exit status; a traceback is asked for."""

import sys

import pytest

from augcam.cli.errors import reported
from augcam.errors import RunError, UserError


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
