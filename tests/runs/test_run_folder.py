"""The run folder: one place names its files."""

import ast
import shutil
from pathlib import Path

import pytest

from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.runs import run_folder
from augcam.runs.run_folder import RunFolder, nothing_left_if_refused, run_folders
from tests.conftest import compose

ROOT = Path(__file__).parents[2]
NAMING = ROOT / "src" / "augcam" / "runs" / "run_folder.py"
# A report's pictures lie in a folder of the same name beside the report, which is no run's.
ELSEWHERE = {ROOT / "src" / "augcam" / "report" / "write.py": {"figures"}}


def names() -> set[str]:
    """What files and folders of a run are called, by RunFolder itself."""
    run = RunFolder("run")
    places = [
        value for key, value in vars(run).items() if isinstance(value, Path) and key[0] != "_"
    ]
    return {part for place in places for part in place.relative_to("run").parts}


def spelt_out(source: str) -> set[str]:
    """The names in paths of a source file: words without a space, or the right side of a slash."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str(word))):
                found |= names() & {word}
            case ast.Constant(value=str(text)) if not any(map(str.isspace, text)):
                found |= {part for part in names() & set(text.split("/")) if "." in part}
    return found


def test_no_other_source_spells_out_the_name_of_a_file_of_a_run():
    assert names() >= {"evaluation.json", "explain", "train.log", "overrides.yaml", "audit.json"}
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    others = {file: spelt_out(file.read_text()) for file in sources if file != NAMING}
    assert {file: found for file, found in others.items() if found} == ELSEWHERE


def test_the_search_finds_names_in_paths_and_leaves_prose():
    assert spelt_out('folder / "explain"') == {"explain"}
    assert spelt_out('folder.glob("*/metrics.json")') == {"metrics.json"}
    assert spelt_out('print("explain", "metrics.json is missing")') == set()


def test_runs_are_found_below_a_folder_and_not_within_each_other(tmp_path):
    for name in ("b/.hydra", "a/checkpoints/.hydra", "sweep/one", ".hidden/.hydra", "none/figures"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sweep" / "one" / "metrics.json").write_text("{}")
    paths = [run.path.relative_to(tmp_path).as_posix() for run in run_folders(tmp_path)]
    assert paths == ["a", "b", "sweep/one"]
    assert [run.path for run in run_folders(tmp_path / "b")] == [tmp_path / "b"]


def test_links_lead_out_of_no_part_of_a_run_but_of_what_wandb_keeps_in_its_own_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    logs = run.path / "wandb" / "run-1" / "logs"
    logs.mkdir(parents=True)
    # As wandb itself does: the log of its process is in a cache of the user's.
    (logs / "debug-core.log").symlink_to(tmp_path / "cache.log")
    run.refuse_links()
    with run.locked():
        pass
    (run.path / "figures" / "wandb").mkdir(parents=True)
    (run.path / "figures" / "wandb" / "a.png").symlink_to(tmp_path / "cache.log")
    with pytest.raises(UserError, match=r"figures/wandb/a.png is a link that leads out"):
        run.refuse_links()
    shutil.rmtree(run.figures)
    shutil.rmtree(run.path / "wandb")
    (run.path / "wandb").symlink_to(tmp_path)
    with pytest.raises(UserError, match="wandb is a link that leads out"):
        run.refuse_links()


def test_a_run_that_no_command_began_has_no_overrides_and_gets_none_when_it_goes_on(tmp_path):
    run, config = RunFolder(tmp_path / "run"), validate(compose(["data=shapes"]))
    run.config_file.parent.mkdir(parents=True)
    run.overrides_file.write_text("- seed=9\n")  # left by a start that was killed
    run.save_config(config, None)
    assert run.overrides() is None
    run.save_config(config, ["trainer.max_epochs=9"])  # python train.py run=DIR
    assert run.overrides() is None


def test_the_command_to_go_on_lets_in_what_the_config_needs(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.command_to_go_on(validate(compose())) == f"python train.py run={run}"
    own = ["model=custom", "model._target_=mynet.nets.Net", "+callbacks.x._target_=more.Callback"]
    config = validate(compose([*own, "trust=[mynet,more]"]))
    assert run.command_to_go_on(config) == f"python train.py run={run} 'trust=[more,mynet]'"


@pytest.mark.parametrize("trained", [False, True])
def test_of_a_new_run_that_is_refused_nothing_is_left_unless_it_has_been_trained(tmp_path, trained):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()

    def refused():
        run.save_config(validate(compose()))
        if trained:
            run.checkpoints.mkdir()
            run.last.touch()
        raise UserError("wrong")

    with pytest.raises(UserError, match="wrong"), nothing_left_if_refused(run):
        refused()
    assert run.path.exists() == run.config_file.exists() == trained


def test_stopped_between_its_two_files_a_folder_is_no_run_yet_and_loses_no_overrides(
    tmp_path, monkeypatch
):
    run, config = RunFolder(tmp_path / "run"), validate(compose(["data=shapes"]))
    really = run_folder.write_atomically

    def full(path, content):
        if path == run.config_file:
            raise OSError(28, "No space left on device", str(path))
        really(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            run.save_config(config, ["data=cifar10"])
    assert run.state() == "foreign"
    run.save_config(config, ["data=shapes"])  # begun anew, with other words
    assert run.overrides_file.read_text() == "- data=shapes\n"
    run.save_config(config)  # run=DIR
    assert run.overrides_file.read_text() == "- data=shapes\n"
