"""Every file of src/augcam has its test file, of the same name at the same place."""

from pathlib import Path

from tests.conftest import ROOT

SOURCE, TESTS = ROOT / "src" / "augcam", ROOT / "tests"

# Sources without a test file, or folders where some have none, and where they are tested.
ELSEWHERE = {
    "__main__.py": "tests/cli/test_main.py: `python -m augcam` is `augcam`",
    "evaluate.py": "tests/cli/test_evaluate.py: `python -m augcam.evaluate` of earlier versions",
    "preview.py": "tests/cli/test_preview.py: the same",
    "explain/__main__.py": "tests/cli/test_explain.py: the same",
    "report/__main__.py": "tests/cli/test_report.py: the same",
    "audit/": "tests/audit/test_measure.py, on networks whose reasons are known",
    "explain/faithfulness/section.py": "tests/explain/faithfulness/test_verdict.py, with the words",
    "explain/gallery.py": "tests/cli/test_explain.py, on the page",
    "report/sections/": "tests/cli/test_report.py, on the page",
}

# Tests of the whole: not of one file.
OF_THE_WHOLE = {
    "test_docs_site.py", "test_floors.py", "test_mirror.py", "test_python_docs.py", "test_wheel.py",
    "cli/test_documented.py",
}  # fmt: skip


def relative(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def of_the_source(test: str) -> set[str]:
    """Where the source of a test may be: `test_train_ddp.py` is a further one of `train.py`."""
    path = Path(test)
    words = path.stem.removeprefix("test_").split("_")
    names = ("_".join(words[:count]) for count in range(1, len(words) + 1))
    return {(path.parent / f"{name}.py").as_posix() for name in names}


def test_every_source_has_its_test_file():
    sources = {name for name in relative(SOURCE, "*.py") if not name.endswith("__init__.py")}
    expected = {
        (Path(name).parent / f"test_{Path(name).name}").as_posix(): name for name in sources
    }
    without = {name for test, name in expected.items() if not (TESTS / test).is_file()}
    rooms = {f"{Path(name).parent.as_posix()}/" for name in without}
    assert {name for name in without if f"{Path(name).parent}/" not in ELSEWHERE} == {
        name for name in ELSEWHERE if not name.endswith("/")
    }
    assert rooms >= {name for name in ELSEWHERE if name.endswith("/")}
    assert all((ROOT / where.split(":")[0].split(",")[0]).is_file() for where in ELSEWHERE.values())


def test_every_test_file_has_its_source():
    sources = relative(SOURCE, "*.py") | {
        f"bench/{name}" for name in relative(ROOT / "bench", "*.py")
    }
    tests = {name for name in relative(TESTS, "test_*.py") if not name.startswith("faults/")}
    assert {test for test in tests if not of_the_source(test) & sources} == OF_THE_WHOLE
