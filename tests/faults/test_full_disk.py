"""A file system that is really full in the middle of a run: words, status 1, and the run goes on.

Each run has a tmpfs of its own, in a mount namespace that only it sees. It is made larger after the run
has ended, and the run goes on in it.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.harness import (
    CLONE_NEWNS,
    TINY,
    differences,
    exit_status,
    on_a_full_disk,
    outcome,
    start,
)

SMALL = 150_000  # bytes: less than the first checkpoint takes
STEPS = 24  # sizes of the disk in the slow test


def _allowed() -> bool:
    """Whether this process may have a mount namespace of its own, tried in a process."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    done = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
    )
    return done.returncode == 0 and hasattr(ctypes.CDLL(None), "unshare") and CLONE_NEWNS > 0


pytestmark = pytest.mark.skipif(
    shutil.which("unshare") is None or not _allowed(), reason="no mount namespaces here"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict, int]:
    """What the run leaves, and how many bytes."""
    place = tmp_path_factory.mktemp("undisturbed")
    arguments = ["train", f"hydra.run.dir={place / 'run'}", *TINY]
    assert exit_status(start(place / "run", place / "log.txt", arguments=arguments)) == 0
    files = [path for path in (place / "run").rglob("*") if path.is_file()]
    return outcome(place / "run"), sum(path.stat().st_size for path in files)


def problems(place: Path, size: int, expected: dict) -> list[str]:
    """Run on a disk of `size` bytes, go on with space, and compare; what is wrong."""
    place.mkdir()
    first, again, text = on_a_full_disk(place, size)
    found = []
    if first == 0:
        return ["never full"]
    if first != 1:
        found.append(f"status {first}")
    if "Traceback" in text or "Exception ignored" in text:
        found.append("a traceback")
    if "No space left on device" not in text or "free space" not in text:
        found.append("no words")
    if again != 0:
        return [*found, f"going on: {again}", text[-600:]]
    return found + differences(expected, outcome(place / "kept"))


def check(sizes: list[int], expected: dict, tmp_path: Path) -> None:
    wrong, full = {}, 0
    for size in sizes:
        found = problems(tmp_path / str(size), size, expected)
        full += found != ["never full"]
        if found and found != ["never full"]:
            wrong[size] = found
            print(f"WRONG at {size:,} bytes: {found}", flush=True)
    print(f"\n{len(sizes)} sizes, {full} full in mid-run, {full - len(wrong)} bit-identical")
    assert full
    assert not wrong


def test_a_disk_that_is_full_in_mid_run(undisturbed, tmp_path):
    expected, total = undisturbed
    check([SMALL, total // 2, total - 50_000], expected, tmp_path)


@pytest.mark.slow
def test_disks_of_many_sizes(undisturbed, tmp_path):
    expected, total = undisturbed
    check([SMALL + (total - SMALL) * i // STEPS for i in range(STEPS)], expected, tmp_path)
