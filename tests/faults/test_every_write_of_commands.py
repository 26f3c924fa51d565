"""Killed or refused the disk at any write, a command started again leaves what it would have left."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from augcam.evaluation import kept
from augcam.runs.run_folder import RunFolder
from tests.faults.harness import (
    TINY,
    Fault,
    Write,
    differences,
    exit_status,
    faults,
    outcome,
    recorded,
    start,
)

SAMPLE = 3  # points of each command in the quick test
PARTS = 2  # of the slow one
ASKED: dict[str, Any] = {"n": 10, "samples": 10, "seed": 0, "checkpoint": "last"}
# Of a training, what its own harness does not have: the files of the command line.
OF_THE_COMMAND_LINE = (".", ".hydra", ".lock", "train.log")


def arguments(command: str, folder: Path) -> list[str]:
    """What a person types, the first time and again."""
    if command == "evaluate":
        return ["evaluate", f"run={folder}", "n=10", "samples=10"]
    if command == "explain":
        return ["explain", f"run={folder}", "n=1", "layers=layer4"]
    if RunFolder(folder).config_file.is_file():
        return ["train", f"run={folder}"]
    return ["train", f"hydra.run.dir={folder}", *TINY]


def result(command: str, folder: Path) -> dict[str, Any]:
    """All that the command leaves, without clocks."""
    if command == "train":
        files = {name: yaml.safe_load((folder / ".hydra" / f"{name}.yaml").read_text())
                 for name in ("config", "overrides", "hydra")}  # fmt: skip
        logged = "training images/s" in (folder / "train.log").read_text()
        config = {key: files["config"][key] for key in files["config"] if key != "name"}
        found = outcome(folder) | {"config": config, "logged": logged}
        return found | {"overrides": files["overrides"]} if files["hydra"] else found
    if command == "evaluate":
        record = json.loads((folder / "evaluation.json").read_text())
        with np.load(folder / "evaluation.npz") as saved:
            arrays = {name: saved[name] for name in saved.files}
        return {"record": without_clocks(record), "arrays": arrays}
    return {p.name: digest(p) for p in sorted((folder / "explain").iterdir())}


def without_clocks(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def of_the_run(folder: Path) -> dict[str, str]:
    """The files that neither command may touch."""
    return {
        name: digest(folder / name)
        for name in ("metrics.json", "test_predictions.npz", "checkpoints/last.ckpt",
                     "checkpoints/best.ckpt", ".hydra/config.yaml", ".hydra/overrides.yaml")
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run, copied before each point."""
    place = tmp_path_factory.mktemp("finished")
    status = exit_status(start(place / "run", place / "log.txt"))
    assert status == 0, (place / "log.txt").read_text()
    return place / "run"


@pytest.fixture(scope="module")
def undisturbed(finished, tmp_path_factory):
    """A function: what a command leaves, and its writes; made once."""
    made: dict[str, tuple[dict[str, Any], list[Write]]] = {}

    def of(command: str) -> tuple[dict[str, Any], list[Write]]:
        if command not in made:
            place = tmp_path_factory.mktemp(command)
            folder = place / "run"
            if command != "train":
                shutil.copytree(finished, folder)
            log = place / "log.txt"
            status = exit_status(start(folder, log, arguments=arguments(command, folder)))
            assert status == 0, log.read_text()
            made[command] = result(command, folder), recorded(log)
        return made[command]

    return of


def problems_after(
    command: str, place: Path, finished: Path, fault: Fault, expected: dict[str, Any]
) -> list[str]:
    """Let the fault happen, start the command until it is done, and compare; what is wrong."""
    folder, log = place / "run", place / "log.txt"
    place.mkdir()
    if command != "train":
        shutil.copytree(finished, folder)
    status = exit_status(start(folder, log, fault, arguments(command, folder)))
    text = log.read_text()
    if f"STRUCK {fault}" not in text:
        return ["not reached"]
    found = ["a traceback"] if "Traceback" in text else []
    if fault.what == "kill" and status != -9:
        found.append(f"killed, and it ended with {status}")
    elif fault.what != "kill" and status not in (0, 1, 2):
        found.append(f"status {status}")
    if command == "evaluate":  # half of it is never taken for the whole
        half = kept(RunFolder(folder), **ASKED)
        if half and differences(expected["record"], without_clocks(half)):
            found.append("another evaluation is taken for this one")
    again = exit_status(start(folder, log, arguments=arguments(command, folder)))
    if again != 0:
        return [*found, f"again: status {again}", *log.read_text().splitlines()[-3:]]
    found += differences(expected, result(command, folder))
    if command != "train" and of_the_run(folder) != of_the_run(finished):
        found.append("a file of the run is another")
    # An empty lock that nobody holds stops nobody.
    left = [p.name for p in folder.rglob(".*") if p.name != ".hydra" and p.suffix != ".lock"
            and p.name != ".lock"]  # fmt: skip
    return [*found, f"left behind: {left}"] if left else found


def check(
    command: str, points: list[Fault], undisturbed: Any, finished: Path, tmp_path: Path
) -> None:
    expected, _ = undisturbed(command)
    wrong, reached = {}, 0
    for number, fault in enumerate(points):
        place = tmp_path / str(number)
        found = problems_after(command, place, finished, fault, expected)
        if found == ["not reached"] and fault.write.file == "events":
            continue  # a thread of TensorBoard's writes them: how often, depends on its turn
        reached += 1
        if found:
            wrong[str(fault)] = found
            print(f"WRONG {fault}: {found}", flush=True)
        shutil.rmtree(place)
    print(f"\n{command}: {len(points)} points, {reached} reached, {reached - len(wrong)} the same")
    assert not wrong, "\n".join(f"{fault}: {found}" for fault, found in wrong.items())


def points_of(command: str, writes: list[Write]) -> list[Fault]:
    return [
        fault for fault in faults(writes)
        if command != "train" or fault.write.file.partition("/")[0] in OF_THE_COMMAND_LINE
    ]  # fmt: skip


COMMANDS = ["train", "evaluate", "explain"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_sample_of_a_commands_writes(undisturbed, finished, tmp_path, command):
    points = [f for f in points_of(command, undisturbed(command)[1]) if f.write.file != "events"]
    check(command, points[:: len(points) // SAMPLE][:SAMPLE], undisturbed, finished, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("command", COMMANDS)
def test_every_write_of_a_command(undisturbed, finished, tmp_path, command, part):
    points = points_of(command, undisturbed(command)[1])
    check(command, points[part::PARTS], undisturbed, finished, tmp_path)
