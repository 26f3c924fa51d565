"""What README and --help promise is run as it stands there, on little data."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from augcam.cli import audit, board, evaluate, explain, foreign, refine, report
from augcam.cli.arguments import folders_and_options, options
from augcam.config.compose import sweep_jobs
from augcam.config.schema import validate
from augcam.data.normalize import normalize
from augcam.runs.build import build_data
from augcam.training.build import build_classifier
from tests.conftest import ROOT, compose, train_py

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
LITTLE = [
    "data=shapes", "data.train_size=100", "data.test_size=20", "data.holdout=20", "model=resnet10",
    "model.width=8", "trainer.accelerator=cpu", "trainer.fast_dev_run=true",
]  # fmt: skip
RECIPES = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(
    path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml")
)

# As it is typed; where a table shows what to add to any command, it is `...`.
COMMAND = re.compile(r"(?:(?:uv run |python )+train\.py|(?:uv run )?augcam (\w+)|\.\.\.) (.+)")

# The options of each command that does without Hydra: of a run, and of a network from elsewhere.
OPTIONS = {
    "audit": (audit.Options, audit.ForeignOptions),
    "board": (board.Options,),
    "evaluate": (evaluate.Options,),
    "explain": (explain.Options, foreign.Options),
    "refine": (refine.Options,),
    "report": (report.Options,),
}


def documented(page: Path) -> Iterator[tuple[str, ...]]:
    """`train` and its arguments, of every command in a page's code: a line of a block, or a span."""
    text = page.read_text().replace("\\\n", "")
    lines = [
        part
        for line in re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE)
        for part in re.sub(r"\s+# .*", "", line).split(" && ")
    ]
    for code in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        if match := COMMAND.fullmatch(code.strip()):
            yield match[1] or "train", *shlex.split(match[2])


COMMANDS = sorted({words for page in PAGES for words in documented(page)})
CONFIGS = [words for words in COMMANDS if words[0] in ("train", "preview")]
# Files that the reader writes, a shell's variables, and no config at all.
NOT_OURS = re.compile(r"\brun=|aug=emboss|data=mine|\$|KEY=VALUE|--help|--cfg")


def test_the_commands_of_the_pages_are_found():
    assert {" ".join(words) for words in COMMANDS} >= {
        "train experiment=quickstart",  # after `&&`, and a comment behind it
        "train -m aug=none,flip,cutout,rotate seed=1,2,3 sweep.name=flips",
        "train data=torchvision data.dataset=SVHN data.download=true",  # second in its cell
        "train model.freeze=2 optim.lr=0.01 optim.head_lr=0.1",  # `...`
        "train trainer.fast_dev_run=true",
        "train aug=augmix loss.jsd=12",  # `augcam train`
        "train aug=crop_flip seed=1 model=resnet10 data.holdout=40000 trainer.max_epochs=10 "
        "trainer.limit_val_batches=10 trainer.accelerator=cpu trainer.precision=32-true",  # on two
        "preview aug=none,flip,cutout,rotate",
        "evaluate run=DIR n=250",  # in a sentence
    }


@pytest.mark.parametrize(
    "words", [words for words in CONFIGS if not NOT_OURS.search(" ".join(words))], ids=" ".join
)
def test_each_documented_config_is_one(words):
    # Of several seeds the first is enough, and of all augmentations a few.
    arguments = [re.sub(r"^seed=(\d+),.*", r"seed=\1", one) for one in words[1:] if one != "-m"]
    jobs = sweep_jobs(arguments)
    assert len(jobs) == 1 or "-m" in words or words[0] == "preview", "a sweep wants -m"
    for job in jobs[:4]:
        validate(compose(job))


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words not in CONFIGS], ids=" ".join
)
def test_each_documented_option_is_one(words):
    command, *arguments = words
    own, *foreign_network = OPTIONS[command]
    if command in ("board", "refine", "report"):
        _, arguments = folders_and_options(arguments)
    elif foreign.is_asked_for(arguments):
        (own,) = foreign_network
        foreign.described(arguments, ("model", "data"))
        arguments = foreign.others(arguments, ("model", "data"))
    else:
        arguments = ["run=DIR", *arguments]  # which a sentence may leave out
    options(own, arguments, "")


@pytest.mark.parametrize(
    "command",
    [
        "aug=crop_flip_trivialaugment mix=cutmix",
        "-m aug=none,cutout,rotate,cutout_rotate seed=1,2,3",
    ],
)
def test_a_documented_command_runs(tmp_path, command):
    assert f"`python train.py {command}`" in README
    folders = [f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep"]
    # Two jobs of the twelve.
    arguments = shlex.split(command.replace("none,cutout,rotate,", "none,").replace("1,2,3", "1"))
    done = train_py(*arguments, *LITTLE, *folders)
    assert done.returncode == 0, done.stdout + done.stderr


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
