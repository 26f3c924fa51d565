"""`augcam COMMAND`: one door, quick to answer, and a refusal costs no import of torch."""

import errno
import subprocess
import sys
from contextlib import suppress

import pytest

from augcam.cli.main import COMMANDS, main
from tests.conftest import ROOT

HEAVY = {"torch", "torchvision", "albumentations", "pytorch_lightning", "matplotlib"}


def test_help_names_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        main(arguments)
        said = capsys.readouterr().out
        assert all(name in said for name in COMMANDS)


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["trian", "aug=none"])
    assert ended.value.code == 2
    assert "did you mean train" in capsys.readouterr().err


def test_the_version(capsys):
    from importlib.metadata import version

    main(["--version"])
    assert capsys.readouterr().out.strip() == version("augcam")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_file_and_a_help(name, capsys):
    assert (ROOT / "src" / "augcam" / "cli" / f"{name}.py").is_file()
    with suppress(SystemExit):
        main([name, "--help"])
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "fails", "remedy"),
    [
        (["report", "x"], "augcam.cli.report.main", "; out=DIR writes to another folder"),
        (["evaluate", "run=x"], "augcam.cli.evaluate.main", ""),
        (
            ["train", "aug=none"],
            "hydra._internal.utils._run_hydra",
            "; hydra.run.dir=DIR writes to another folder",
        ),
        (
            ["train", "-m", "aug=none"],
            "hydra._internal.utils._run_hydra",
            "; sweep.dir=DIR writes to another folder",
        ),
    ],
)
def test_a_folder_that_cannot_be_written_is_answered_by_each_commands_own_remedy(
    arguments, fails, remedy, monkeypatch, capsys
):
    def refused(*given, **options):
        raise OSError(errno.EROFS, "Read-only file system", "/there")

    monkeypatch.setattr(fails, refused)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"augcam: /there: Read-only file system{remedy}\n"


def weight(*commands: list[str]) -> str:
    """The first of these commands that imports something heavy, and what; all of them end early."""
    script = (
        "import sys\n"
        "from augcam.cli.main import main\n"
        f"for arguments in {list(commands)!r}:\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        f"    heavy = {HEAVY!r} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{arguments}: {heavy}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return "" if done.returncode == 0 else done.stderr


def test_help_and_refusals_import_nothing_heavy():
    assert (
        weight(
            *([name, "--help"] for name in COMMANDS if name != "explain"),
            ["train", "data=shapes", "trainer.max_epochs=0"],
            ["train", "data=shapes", "aug=rotate", "aug.rotate.p=nan"],
            ["train", "aug=cutot"],
            ["train", "aug=1"],
            ["train", "run=nowhere"],
            ["preview", "data=shapes", "data.batch_size=0"],
            ["evaluate", "n=1", "run=x"],
            ["report", "nokey=1"],
            ["board", "port=-1"],
        )
        == ""
    )


def test_explain_is_as_quick():
    commands = ["explain", "--help"], ["explain", "samples=8", "run=x"], ["explain", "nokey=8"]
    assert weight(*commands) == ""


def test_a_probability_over_one_is_refused_before_torch():
    assert weight(["train", "data=shapes", "aug=rotate", "aug.rotate.p=3"]) == ""
