"""The Python that the README and the notebook show runs as it stands there."""

import json
import re
from typing import Any

import matplotlib
import pytest

from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, and no window."""
    monkeypatch.chdir(tmp_path)
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield
    matplotlib.use(before)


def test_the_readmes_section_from_python(tmp_path):
    section = (ROOT / "README.md").read_text().split("## From Python", 1)[1]
    code = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["heatmaps"].shape == (8, 32, 32)
    assert list(names["maps"]) == ["layer3", "layer4"]
    assert len(list((tmp_path / "outputs").iterdir())) == 1


def test_the_notebook():
    notebook = json.loads((ROOT / "docs" / "augcam.ipynb").read_text())
    names: dict[str, Any] = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # what a machine printed once is no documentation
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert names["maps"].logits.shape == (2, 1000)
    assert set(names["runs"]) == {"none", "cutout"}
