"""What went wrong in words, and whose fault it was."""

import errno
import os

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from augcam.config.compose import compose
from augcam.errors import RunError, UserError, explained, first_line, nearest, shown


def failed(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/there/file")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UserError("n=0\nn=1"), 2, ["augcam: n=0", "augcam: n=1"]),
        (RunError("the loss is not finite"), 1, ["augcam: the loss is not finite"]),
        (failed(errno.EACCES), 2, ["augcam: /there/file: Permission denied"]),
        (failed(errno.ENOSPC), 1, ["augcam: /there/file: No space left on device; free space"]),
        (ZeroDivisionError("by zero"), 1, ["ZeroDivisionError: by zero", "debug=true shows where"]),
    ],
)
def test_a_message_and_an_exit_status(error, status, words):
    message, ended = explained(error)
    assert ended == status
    lines = message.splitlines()
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_where_else_a_command_can_write_is_said_by_its_own_argument():
    for number, end in (
        (errno.EROFS, "Read-only file system; out=DIR writes to another folder"),
        (errno.ENOSPC, "No space left on device; free space, or out=DIR writes to another disk"),
    ):
        assert explained(failed(number), "out=DIR")[0] == f"augcam: /there/file: {end}"
        assert "DIR" not in explained(failed(number))[0]


def test_an_unknown_key_of_a_config_is_named_with_the_nearest():
    tree = OmegaConf.create({"trainer": {"max_epochs": 1}})
    OmegaConf.set_struct(tree, True)
    with pytest.raises(OmegaConfBaseException) as caught:
        tree.trainer.max_epoch  # noqa: B018
    message, status = explained(caught.value)
    assert (message, status) == (
        "augcam: trainer.max_epoch: there is no such key; did you mean max_epochs?",
        2,
    )


@pytest.mark.parametrize(
    ("several", "right"),
    [("none,rotate", "add -m; a list is [none,rotate]"), ("choice(none,rotate)", "add -m")],
)
def test_several_values_without_m_are_said_to_be_a_sweep(several, right):
    with pytest.raises(ConfigCompositionException) as caught:
        compose([f"aug={several}"])
    assert explained(caught.value) == (
        f"augcam: aug={several}: several values are a sweep: {right}",
        2,
    )


def test_a_long_value_keeps_its_ends_and_one_line():
    text = "a" * 100 + "\n" + "z" * 100
    assert shown(text, 80) == "a" * 60 + "[...]" + "z" * 15
    assert shown("  two\n words ") == "two words"


def test_the_first_line_of_an_error_is_never_empty_nor_long():
    assert first_line(ValueError("no such file\nTraceback")) == "no such file"
    assert first_line(ValueError("\n\nno such file")) == "no such file"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("x" * 200), 120) == "x" * 120


def test_nearest_names_all_where_none_is_near():
    assert nearest("cutot", ["cutout", "flip"]) == "did you mean cutout?"
    assert nearest("xyz", ["flip", "cutout"]) == "there is: cutout, flip"
