"""What the tests of several commands need."""

from collections.abc import Callable

import pytest

from augcam.cli.main import main


@pytest.fixture
def refusal(capfd) -> Callable[..., str]:
    """What `augcam ARGUMENTS` says on stderr, having made sure that it refused in one to three lines.

    In this process: the command line's own `main` is what the console script calls.
    """

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        words = capfd.readouterr().err
        assert ended.value.code == 2, words
        assert 1 <= len(words.strip().splitlines()) <= 3, words
        assert "Traceback" not in words
        return words

    return said
