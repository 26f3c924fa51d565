"""The documentation site: every key has its meaning, quoted answers are real, knobs exist."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from omegaconf import OmegaConf

from augcam.cli.main import main
from augcam.config.compose import flat
from tests.conftest import ROOT, compose

sys.path.insert(0, str(ROOT / "docs"))
import hooks

QUOTED = re.findall(
    r"^    \$ python train\.py (.+)\n    (augcam: .+)$",
    (ROOT / "docs/troubleshooting.md").read_text(),
    re.MULTILINE,
)
KNOBS = re.findall(
    r"^\| .+ \| (`.+) \| `(conf/.+)` \|$", (ROOT / "docs/knobs.md").read_text(), re.M
)


def test_every_key_of_the_schema_has_a_meaning():
    assert hooks.missing() == []
    page = hooks.config_reference()
    for key in ("`trainer.gradient_clip_val`", "`data.batch_size`", "`mix.p`", "`loss.l1`"):
        row = next(line for line in page.splitlines() if line.startswith(f"| {key}"))
        assert len(row.rstrip(" |").rpartition("|")[2]) > 5, row


def test_a_key_without_a_meaning_ends_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "CONF", tmp_path)
    path = tmp_path / "one.yaml"
    path.write_text("known: 1  # said here\nunknown: 2\n")
    known, unknown = hooks.keys(path)
    assert hooks.meaning(path, known) == "said here"
    with pytest.raises(ValueError, match="unknown has no meaning"):
        hooks.meaning(path, unknown)


def test_every_section_of_readme_that_is_a_page_exists():
    assert set(hooks.readme_pages()) == set(hooks.SECTIONS.values())


@pytest.mark.parametrize(("arguments", "answer"), QUOTED, ids=[quoted[0] for quoted in QUOTED])
def test_the_quoted_answers_are_what_the_program_says(
    arguments, answer, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments.split()])
    assert ended.value.code == 2
    assert answer in capfd.readouterr().err


def test_there_are_quoted_answers():
    assert len(QUOTED) >= 8


def test_twenty_knobs_are_where_the_list_says():
    assert len(KNOBS) == 20
    tree: Any = OmegaConf.to_container(compose(["aug=rotate"]))
    config = flat(tree)
    for words, where in KNOBS:
        path = ROOT / where
        assert path.exists(), where
        for key in re.findall(r"`([\w.]+)`", words):
            if (ROOT / "conf" / key).is_dir():
                continue
            assert key in config or key == "data.root", key
            if path.is_file():
                name = key.rpartition(".")[2]
                assert re.search(rf"^ *{name}:", path.read_text(), re.MULTILINE), (key, where)


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    built = subprocess.run(
        # Not -q: mkdocs then counts no warning, not even with --strict.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site/reference/config.html").is_file()
    start = (tmp_path / "site/index.html").read_text()
    assert not re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', start)
