"""The pages with measured numbers are exactly what the kept runs say."""

import subprocess
import sys

from tests.conftest import ROOT


def test_results_ablation_and_readme_are_what_the_script_writes():
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "results.py"), "check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
