"""What a run sets in its process."""

import platform
import subprocess
import sys
from functools import partial
from importlib.metadata import version

import cv2
import numpy as np
import pytest

from augcam.training import hardware

PROGRAM = """
import ctypes, torch
from augcam.training.hardware import keep_freed_memory

class Allocator(ctypes.Structure):  # struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
        "keepcost")]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Allocator

def kept_of_a_block():
    before = mallinfo2().fordblks  # bytes that the allocator has and nobody uses
    torch.ones(2**24)  # 64 MiB, given back at once
    return mallinfo2().fordblks - before

print(kept_of_a_block())
keep_freed_memory()
print(kept_of_a_block())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.libc_ver()[1] < "2.33", reason="mallinfo2"
)
def test_memory_that_was_given_back_is_kept_for_the_next_block():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    before, after = (int(line) for line in done.stdout.split())
    assert before < 2**20
    assert after > 2**25  # what was free already is used first


def test_a_number_names_the_versions_that_it_depends_on():
    found = hardware.environment()
    assert found["augcam"].split()[0] == version("augcam")
    assert (found["numpy"], found["opencv"]) == (np.__version__, cv2.__version__)


def test_a_clone_is_named_by_its_commit_and_whether_it_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "src" / "augcam" / "training" / "hardware.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    monkeypatch.setattr(hardware, "__file__", str(package))
    named = hardware.augcam_version.__wrapped__  # it is asked once in a process
    assert named() == version("augcam")
    me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    git = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True)
    git(["git", "init"])
    assert named() == version("augcam")  # nothing is committed yet
    git(["git", "add", "."])
    git(["git", *me, "commit", "-m", "first"])
    commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
    assert named() == f"{version('augcam')} ({commit})"
    package.write_text("changed")
    assert named() == f"{version('augcam')} ({commit}+)"
