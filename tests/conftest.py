"""Shared by all tests: the real config tree, the real command line, and where CIFAR-10 is."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

import augcam.config.compose  # noqa: F401 - its resolvers

ROOT = Path(__file__).parents[1]
CIFAR = Path(os.environ.get("AUGCAM_DATA", ROOT.parent / "shared" / "data"))

# Tests run several at a time: one thread each, and the same sums on every machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

needs_cifar = pytest.mark.skipif(
    not (CIFAR / "cifar-10-batches-py").is_dir(), reason="CIFAR-10 is not here: set AUGCAM_DATA"
)


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The config that `python train.py OVERRIDES` composes."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        tree = hydra_compose("train", overrides=list(overrides), return_hydra_config=True)
    # Outside Hydra's main the name's resolver has nothing to read: write out what it would say.
    choice = tree.hydra.runtime.choices["aug"]
    with open_dict(tree):
        del tree["hydra"]
    raw = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(raw, dict)
    raw["aug_name"] = choice
    return OmegaConf.create(raw)


def python(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own and wait for it."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, **options
    )


train_py = partial(python, str(ROOT / "train.py"))
evaluate = partial(python, "-m", "augcam.evaluate")
explain = partial(python, "-m", "augcam.explain")
preview = partial(python, "-m", "augcam.preview")
report = partial(python, "-m", "augcam.report")
