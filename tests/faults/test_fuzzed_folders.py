"""Run folders with anything spoilt in them, to every command: refused in words, or read as it was.

A spoilt file is never taken for a whole one: a checkpoint gives the very weights that were saved, and a
run goes on as the run that it was, or not at all. By hand, with the count printed:

    pytest -n0 -s -m slow tests/faults/test_fuzzed_folders.py        -k 'spoilt and 3': one part
"""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st

from augcam.config.compose import flat
from augcam.config.schema import FREE_TO_CHANGE, plain
from augcam.runs import finished_run
from augcam.runs.finished_run import read_checkpoint
from tests.faults.command import Started, command, watch
from tests.faults.harness import differences
from tests.faults.spoilt import bytes_spoilt, value_spoilt
from tests.faults.test_fuzzed_requests import OPTIONS, PARTS, TINY, VALUES, quickly

FILES = (
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "metrics.json",
    "test_predictions.npz", "evaluation.json", "evaluation.npz", "checkpoints/last.ckpt",
    "checkpoints/best.ckpt", "hparams.yaml",
)  # fmt: skip
TREES = (".hydra/config.yaml", "metrics.json", "evaluation.json")
COMMANDS = {
    "go on": lambda folder: ["train", f"run={folder}"],
    "evaluate": lambda folder: ["evaluate", f"run={folder}", "n=10", "samples=10"],
    "evaluate best": lambda folder: [
        "evaluate", f"run={folder}", "n=10", "samples=10", "checkpoint=best"
    ],
    "explain": lambda folder: ["explain", f"run={folder}", "n=1", "layers=layer4"],
    "report": lambda folder: ["report", str(folder), f"out={folder.parent / 'page'}"],
}  # fmt: skip
COUNT: Counter[str] = Counter()
really_open_run = finished_run.open_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A small run as it should be, evaluated."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    ended = command("train", f"hydra.run.dir={folder}", *TINY, "trainer.max_epochs=2", "aug=flip",
                    "explain.images=0", "preview.samples=0")  # fmt: skip
    assert ended.status == 0, ended.err
    ended = command("evaluate", f"run={folder}", "n=10", "samples=10")
    assert ended.status == 0, ended.err
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    watch()
    return tmp_path


def try_all(
    finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None],
    unfinished: bool, name: str,
) -> None:  # fmt: skip
    """Spoil a copy, give it to a command, and see what comes of it."""
    folder = place / "outputs" / "run"
    shutil.rmtree(place / "outputs", ignore_errors=True)
    shutil.rmtree(place / "page", ignore_errors=True)
    shutil.copytree(finished, folder)
    spoil(folder)
    if unfinished and (folder / "metrics.json").is_file():
        (folder / "metrics.json").unlink()
    whole = {n: read_checkpoint(finished / "checkpoints" / f"{n}.ckpt") for n in ("last", "best")}
    wrong: list[str] = []

    def goes_on(trainer, classifier, data, run_folder, resume_from) -> None:
        if resume_from is None:
            wrong.append("starts from the first epoch")
        else:
            wrong.extend(differences(whole["last"], read_checkpoint(resume_from)))
        before, now = flat(whole["last"]["config"]), flat(plain(run_folder.config()))
        wrong.extend(
            f"goes on with {key}={now.get(key)}, and it had {before[key]}"
            for key in before if before[key] != now.get(key) and not key.startswith(FREE_TO_CHANGE)
        )  # fmt: skip
        raise Started

    def opened(run_folder, checkpoint, progress) -> None:
        run = really_open_run(run_folder, checkpoint, progress)
        saved = {f"network.{key}": value for key, value in run.network.state_dict().items()}
        kept = {k: v for k, v in whole[checkpoint]["state_dict"].items() if k in saved}
        wrong.extend(differences(kept, {key: saved[key].contiguous() for key in kept}))
        raise Started

    monkeypatch.setattr("augcam.training.run.fit_and_test", goes_on)
    monkeypatch.setattr("augcam.runs.finished_run.open_run", opened)
    ended = command(*COMMANDS[name](folder))
    COUNT["inputs"] += 1
    COUNT["started" if ended.started else f"status {ended.status}"] += 1
    problems = ended.problems() + [f"{name}: {one}" for one in wrong[:5]]
    if "debug=true shows where" in ended.err:
        problems.append(f"a fault of ours: {name} {ended.err[-600:]}")
    if "already evaluated" in ended.out:
        for file in ("evaluation.json", "evaluation.npz"):
            if (
                file.endswith("npz")
                and (folder / file).read_bytes() != (finished / file).read_bytes()
            ):
                problems.append(f"{file} is not what was written, and counts as evaluated")
    outside = [p for p in ended.written if not p.is_relative_to(place) and "/.cache/" not in str(p)]
    if outside:
        problems.append(f"written outside: {outside[:3]}")
    assert not problems, f"{spoil.__name__}\n" + "\n".join(problems)


SPOILT: dict[str, st.SearchStrategy] = {
    "spoil": st.one_of(bytes_spoilt(FILES), value_spoilt(TREES)),
    "unfinished": st.booleans(),
    "name": st.sampled_from(sorted(COMMANDS)),
}


@pytest.fixture(scope="module", autouse=True)
def _print_the_count(request):
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nspoilt folders: {dict(sorted(COUNT.items()))}")


@quickly(60)
@given(**SPOILT)
def test_spoilt_folders(finished, place, monkeypatch, spoil, unfinished, name):
    try_all(finished, place, monkeypatch, spoil, unfinished, name)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_six_hundred_spoilt_folders(finished, place, monkeypatch, part):
    @seed(part)
    @quickly(600 // PARTS)
    @given(**SPOILT)
    def some_of_them(spoil, unfinished, name):
        try_all(finished, place, monkeypatch, spoil, unfinished, name)

    some_of_them()


@st.composite
def questions(draw) -> list[str]:
    """What may be asked of a run that is as it should be."""
    name = draw(st.sampled_from(["explain", "explain", "evaluate", "report"]))
    keys = [key for key in OPTIONS[name] if key not in ("run", "out", "trust")]
    values = st.one_of(
        VALUES, st.sampled_from(["/", "/*", "*", ".", "layer4", "layer4,layer1", "star"])
    )
    words = [
        f"{draw(st.sampled_from(keys))}={draw(values)}" for _ in range(draw(st.integers(1, 3)))
    ]
    return [name, *words]


def ask(finished: Path, place: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    def measured(*_arguments: object, **_settings: object) -> None:
        raise Started

    monkeypatch.setattr("augcam.evaluation.measure_run", measured)
    page = place / "page"
    shutil.rmtree(page, ignore_errors=True)
    where = [str(finished), f"out={page}"] if asked[0] == "report" else [f"run={finished}"]
    ended = command(asked[0], *where, *asked[1:])
    COUNT["questions"] += 1
    problems = ended.problems()
    if "debug=true shows where" in ended.err:
        problems.append(f"a fault of ours: {ended.arguments} {ended.err[-600:]}")
    assert not problems, "\n".join(problems)


@quickly(40)
@given(asked=questions())
@example(asked=["explain", "images=/"])
@example(asked=["explain", "images="])
def test_questions(finished, place, monkeypatch, asked):
    ask(finished, place, monkeypatch, asked)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_five_hundred_questions(finished, place, monkeypatch, part):
    @seed(part)
    @quickly(500 // PARTS)
    @given(asked=questions())
    def some_of_them(asked):
        ask(finished, place, monkeypatch, asked)

    some_of_them()
