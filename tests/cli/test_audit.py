"""`augcam audit`: verdicts in words and in audit.json, and bad input."""

import json

import pytest

from augcam import train
from augcam.cli.main import main
from tests.cli.test_train import TINY


def test_a_run_is_audited(tmp_path, capfd):
    folder = tmp_path / "run"
    train([*TINY, "trainer.max_epochs=1", "aug=none", "preview.samples=0"], folder)
    capfd.readouterr()
    main(["audit", f"run={folder}", "n=60"])
    written = json.loads((folder / "audit.json").read_text())
    assert len(written["classes"]) == 10
    for name, one in written["classes"].items():
        assert one["verdict"] in ("no_sign", "look", "context", "shortcut", "undecided")
        assert {"region", "property", "follow_rate", "drop", "p", "images"} <= set(one)
        assert one["images"] == 6
        assert name in capfd.readouterr().out or one["verdict"] == "undecided"
    assert written["settings"]["images"] == 60
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "60 test images" in page
    assert all(name in page for name in written["classes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "run: must be given"),
        (["run=nowhere"], "not a run folder"),
        (["run=nowhere", "n=3"], "greater than or equal to 50"),
        (["run=nowhere", "images=3"], "images"),
    ],
)
def test_what_cannot_be_asked(arguments, words, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["audit", *arguments])
    assert ended.value.code == 2
    assert words in capfd.readouterr().err
