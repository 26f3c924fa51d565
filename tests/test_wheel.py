"""The wheel by itself: in an empty folder, without the clone, it trains and explains."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_train import TINY
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not here")
def test_the_wheel_works_without_the_clone(tmp_path):
    build = ["uv", "build", "--wheel", "--quiet", "-o", str(tmp_path / "wheel"), str(ROOT)]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    # What it depends on comes from this environment; augcam itself from the wheel alone.
    environment = tmp_path / "environment"
    install = [
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(environment),
        str(wheel),
    ]
    subprocess.run([*install, "--python", sys.executable], check=True, cwd=tmp_path)
    assert (environment / "augcam" / "conf" / "train.yaml").is_file()
    assert (environment / "augcam" / "py.typed").is_file()

    empty = tmp_path / "empty"
    empty.mkdir()
    variables = {**os.environ, "PYTHONPATH": str(environment), "OMP_NUM_THREADS": "1"}

    def augcam(*arguments: str) -> str:
        # The console script's own file asks for the interpreter that installed it.
        script = "import sys; from augcam.cli.main import main; main(sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=empty, env=variables, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import augcam; print(augcam.__file__, augcam.__version__)"]
    found = subprocess.run(
        where, cwd=empty, env=variables, capture_output=True, text=True, check=True
    )
    place, version = found.stdout.split()
    assert Path(place).is_relative_to(environment)
    assert version == wheel.name.split("-")[1]

    augcam("train", "experiment=quickstart", *TINY, "trainer.max_epochs=1", "hydra.run.dir=run")
    assert (empty / "run" / "metrics.json").is_file()
    assert "index.html" in augcam("explain", "run=run", "n=1", "layers=layer4")
    augcam("train", "-m", *TINY, "trainer.max_epochs=1", "seed=1", "sweep.name=s")
    assert (empty / "outputs" / "sweeps" / "s" / "report.html").is_file()
