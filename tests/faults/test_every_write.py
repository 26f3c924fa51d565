"""Killed or refused the disk at any write, a run goes on to the result that it would have had."""

import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import (
    Fault,
    Write,
    differences,
    exit_status,
    faults,
    outcome,
    recorded,
    start,
)

SAMPLE = 12  # points in the quick test, spread over the run
PARTS = 10  # of the slow one, so that several processes can share it


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, Any], list[Write]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    status = exit_status(start(folder / "run", folder / "log.txt"))
    assert status == 0, (folder / "log.txt").read_text()
    return outcome(folder / "run"), recorded(folder / "log.txt")


def problems_after(folder: Path, fault: Fault, expected: dict[str, Any]) -> list[str]:
    """Let the fault happen, go on until the run is done, and compare; what is wrong."""
    folder.mkdir()
    log = folder / "log.txt"
    status = exit_status(start(folder / "run", log, fault=fault))
    if f"STRUCK {fault}" not in log.read_text():
        return ["not reached"]
    found = []
    if fault.what == "kill":
        if status != -9:
            found.append(f"killed, and it ended with {status}")
    elif status not in (0, 1, 2):
        found.append(f"status {status}")
    if "Traceback" in log.read_text():
        found.append("a traceback")
    again = exit_status(start(folder / "run", log))
    if again != 0:
        return [*found, f"going on: status {again}", *log.read_text().splitlines()[-3:]]
    found += differences(expected, outcome(folder / "run"))
    left = [p.name for p in (folder / "run").rglob("*")
            if p.name.startswith(".") and p.name not in (".hydra", ".lock")]  # fmt: skip
    if left or (folder / "run" / "checkpoints" / "previous.ckpt").exists():
        found.append(f"left behind: {left or 'previous.ckpt'}")
    return found


def check(points: list[Fault], expected: dict[str, Any], tmp_path: Path) -> None:
    wrong, reached = {}, 0
    for number, fault in enumerate(points):
        folder = tmp_path / str(number)
        found = problems_after(folder, fault, expected)
        if found == ["not reached"] and fault.write.file == "events":
            continue  # a thread of TensorBoard's writes them: how often, depends on its turn
        reached += 1
        if found:
            wrong[str(fault)] = found
            print(f"WRONG {fault}: {found}", flush=True)
        shutil.rmtree(folder)
    print(f"\n{len(points)} points, {reached} reached, {reached - len(wrong)} bit-identical")
    assert not wrong, "\n".join(f"{fault}: {found}" for fault, found in wrong.items())


def test_a_sample_of_the_writes(undisturbed, tmp_path):
    expected, writes = undisturbed
    points = [fault for fault in faults(writes) if fault.write.file != "events"]
    assert len(points) > 150
    check(points[:: len(points) // SAMPLE], expected, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_write(undisturbed, tmp_path, part):
    expected, writes = undisturbed
    points = list(faults(writes))
    assert len(points) >= 200
    check(points[part::PARTS], expected, tmp_path)


@pytest.mark.slow
def test_killed_at_random_moments(undisturbed, tmp_path):
    expected, _ = undisturbed
    began = time.monotonic()  # once more: the first run waits for the process that all are forks of
    assert exit_status(start(tmp_path / "timed", tmp_path / "timed.txt")) == 0
    seconds = time.monotonic() - began
    moments = random.Random(0)
    killed, wrong = 0, []
    for number in range(200):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = start(folder / "run", folder / "log.txt")
        process.join(moments.uniform(0.05, 0.95) * seconds)
        process.kill()
        process.join()
        killed += process.exitcode == -9  # one that had finished by then does not count
        status = exit_status(start(folder / "run", folder / "log.txt"))
        found = differences(expected, outcome(folder / "run")) if status == 0 else [f"{status}"]
        if found:
            wrong.append((number, found))
        shutil.rmtree(folder)
        if killed == 40:
            break
    print(f"\n{killed} killed, {len(wrong)} not bit-identical")
    assert killed == 40
    assert not wrong
