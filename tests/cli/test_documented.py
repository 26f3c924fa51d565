"""What README and --help promise is run as it stands there, on little data."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from augcam.config.compose import quoted
from augcam.config.schema import validate
from augcam.data.normalize import normalize
from augcam.runs.build import build_data
from augcam.training.build import build_classifier
from tests.conftest import ROOT, compose, train_py

README = (ROOT / "README.md").read_text()
LITTLE = [
    "data=shapes", "data.train_size=100", "data.test_size=20", "data.holdout=20", "model=resnet10",
    "model.width=8", "trainer.accelerator=cpu", "trainer.fast_dev_run=true",
]  # fmt: skip
COMMANDS = re.findall(r"^\| `python train.py ([^`]*)` \|", README, flags=re.MULTILINE)
RECIPES = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(
    path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml")
)


def test_the_readme_has_the_commands():
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if not re.search("run=|--help|data=folder|model=|except=", c)]
)
def test_each_documented_command_runs(tmp_path, command):
    folders = [f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep"]
    arguments = shlex.split(command)
    if "-m" in arguments:  # two jobs of the twelve
        arguments = ["-m", "aug=none,cutout", "seed=1"]
    done = train_py(*arguments, *LITTLE, *folders)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        line
        for page in sorted((ROOT / "docs").glob("*.md"))
        for line in re.findall(
            r"^    python train.py ([^#\n$]+)$", page.read_text().replace("\\\n", ""), flags=re.M
        )
        if "trust=" not in line  # tests/runs/test_finished_run.py has a package to trust
    ],
)
def test_each_command_of_the_docs_is_a_config(command):
    arguments = shlex.split(command)
    if sweep := "-m" in arguments:
        arguments.remove("-m")
    arguments = [quoted(argument) for argument in arguments]
    for parsed in OverridesParser.create().parse_overrides(arguments):
        assert parsed.is_sweep_override() <= sweep, f"{parsed.input_line}: a sweep wants -m"
    # Of a sweep, the job with the first of all choices.
    validate(compose([re.sub(r"^([\w.]+=[^,{\[]+),.*", r"\1", one) for one in arguments]))


def test_your_own_images(tmp_path):
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("rose", "tulip"):
            folder = tmp_path / "flowers" / split / name
            folder.mkdir(parents=True)
            for number in range(12):
                pixels = random.integers(0, 255, (50, 70, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    done = train_py(
        "data=folder", f"data.root={tmp_path / 'flowers'}", "data.image_size=64", "model=resnet10",
        "data.holdout=4", "data.batch_size=8", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rose" in done.stdout


def test_help_lists_every_group_and_six_examples():
    said = train_py("--help").stdout
    for group in ("aug", "data", "model", "optim", "scheduler", "trainer", "explain", "experiment"):
        (line,) = (line for line in said.splitlines() if line.strip().startswith(f"{group}: "))
        files = [p.stem for p in (ROOT / "conf" / group).glob("*.yaml") if p.stem[0] != "_"]
        assert all(name in line for name in files), line
    assert said.count("python train.py") >= 6


def test_help_imports_nothing_heavy():
    script = (
        "import sys, runpy; sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'albumentations', 'pytorch_lightning', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_bash_completes_a_choice_after_the_line_of_the_readme():
    (line,) = re.findall(r"^    (eval .*-sc install=bash.*)$", README, re.MULTILINE)
    program = f"""{line}
COMP_LINE="python train.py aug=cutout_r" COMP_POINT=28 COMP_WORDS=($COMP_LINE) COMP_CWORD=2
$(complete -p python | grep -o 'hydra[^ ]*')
echo "${{COMPREPLY[@]}}"
"""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, cwd=ROOT,
        env=os.environ | {"PATH": path},
    )  # fmt: skip
    assert done.stdout.split() == ["aug=cutout_rotate"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_makes_a_batch(name):
    small = ["data=shapes", "data.train_size=100", "data.holdout=20", "data.batch_size=4"]
    config = validate(compose([f"experiment={name}", *small]))
    data = build_data(config)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    classifier = build_classifier(config, data.classes).eval()
    images = normalize(batch.images, data.mean, data.std)
    assert classifier(images).shape == (4, len(data.classes))
