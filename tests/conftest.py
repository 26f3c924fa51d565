"""Shared by all tests: the real config tree, the real command line, and where CIFAR-10 is."""

import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from augcam.config.compose import compose as compose

ROOT = Path(__file__).parents[1]
CIFAR = Path(os.environ.get("AUGCAM_DATA", os.devnull))  # there is nothing below that one

# Tests run several at a time: one thread each, and the same sums on every machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def the_same_random_numbers():
    """A test that draws from a global generator draws the same whenever and wherever it runs."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def log_handlers_of_its_own():
    """A command run in this process opens a log file, which must not outlive its test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


needs_cifar = pytest.mark.skipif(
    not (CIFAR / "cifar-10-batches-py").is_dir(), reason="CIFAR-10 is not here: set AUGCAM_DATA"
)


@contextmanager
def batches_seen() -> Iterator[list[int]]:
    """How many images networks are given at once within it, batch by batch."""
    sizes: list[int] = []

    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].ndim == 4:
            sizes.append(len(inputs[0]))

    hook = register_module_forward_pre_hook(note)
    try:
        yield sizes
    finally:
        hook.remove()


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
