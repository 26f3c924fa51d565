"""The config of a run folder, read as data."""

import os

import pytest
import yaml

from augcam.cli.train import primary_config
from augcam.config.recorded import DATA_ROOT, is_given_again, read, to_give_again
from augcam.config.schema import plain, validate
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder
from tests.conftest import compose


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.save_config(validate(compose(["data=shapes", "aug=cutout_rotate", "optim.lr=0.03"])))
    return run


def changed(folder: RunFolder, **values: object) -> None:
    config = yaml.safe_load(folder.config_file.read_text()) | values
    folder.config_file.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.mark.parametrize(
    "overrides",
    [[], ["experiment=seed/d", "seed=7"], ["aug=none", "name='[/x] 1e-3'"], ["logger=[csv,wandb]"]],
)
def test_what_is_written_is_read_again(tmp_path, overrides):
    config = validate(compose(overrides))
    RunFolder(tmp_path).save_config(config, overrides)
    assert RunFolder(tmp_path).config() == config
    assert "${" not in RunFolder(tmp_path).config_file.read_text().replace(DATA_ROOT, "")
    assert yaml.safe_load(RunFolder(tmp_path).overrides_file.read_text()) == overrides


def test_trust_is_neither_kept_nor_read(tmp_path, folder):
    config = validate(compose(["trust=[mypackage]"]))
    assert config.trust == ("mypackage",)
    assert "trust" not in plain(config)
    changed(folder, trust=["mypackage"])
    assert folder.config().trust == ()


def test_a_folder_of_an_earlier_version_means_what_it_meant(folder, monkeypatch):
    """Their configs were written as Hydra composes them, unresolved."""
    config = yaml.safe_load(folder.config_file.read_text())
    config["scheduler"]["max_lr"] = "${optim.lr}"
    config["sweep"]["dir"] = "outputs/sweeps/${sweep.name}"
    config["sweep"]["name"] = "first"
    config["data"] = {
        k: config["data"][k] for k in ("batch_size", "eval_batch_size", "num_workers")
    }
    config["data"] |= {"name": "cifar10", "holdout": 5000, "root": DATA_ROOT}
    for key in ("logger", "callbacks"):
        del config[key]
    config |= {"name": "paper_${aug_name}", "aug_name": "${hydra:runtime.choices.aug}"}
    folder.config_file.write_text(yaml.safe_dump(config, sort_keys=False))
    folder.hydra_file.write_text(
        "hydra:\n  runtime:\n    choices: {aug: cutout_rotate}\n  run:\n    dir: ${now:%H}\n"
    )
    monkeypatch.setenv("AUGCAM_DATA", "/somewhere/else")
    read_again = folder.config()
    assert (read_again.aug_name, read_again.name) == ("cutout_rotate", "paper_cutout_rotate")
    assert read_again.scheduler.arguments()["max_lr"] == 0.03
    assert read_again.sweep.dir == "outputs/sweeps/first"
    assert read_again.data.root == "/somewhere/else"
    assert list(read_again.logger) == ["tensorboard"]


def test_data_where_the_variable_points_moves_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AUGCAM_DATA", "/here")
    RunFolder(tmp_path).save_config(validate(compose()))
    monkeypatch.setenv("AUGCAM_DATA", "/there")
    assert plain(RunFolder(tmp_path).config())["data"]["root"] == "/there"
    monkeypatch.setenv("AUGCAM_DATA", "/here")
    flowers = ["data=folder", "data.root=/here/own/flowers/"]
    RunFolder(tmp_path / "own").save_config(validate(compose(flowers)))
    monkeypatch.setenv("AUGCAM_DATA", "/there")
    assert plain(RunFolder(tmp_path / "own").config())["data"]["root"] == "/there/own/flowers"


def test_data_that_have_moved_can_be_named(folder, tmp_path):
    RunFolder(tmp_path / "own").save_config(validate(compose(["data=folder", "data.root=/gone"])))
    own = RunFolder(tmp_path / "own")
    own.data_root = tmp_path / "here"
    assert plain(own.config())["data"]["root"] == str(tmp_path / "here")
    folder.data_root = tmp_path / "here"
    assert folder.config().data.name == "shapes"  # which are made, and read from nowhere


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"name": "${oc.env:HOME}"}, "only plain values"),
        ({"name": "${oc.env:AUGCAM_DATA,data}x${oc.env:HOME}"}, "only plain values"),
        ({"name": "${seed}"}, "only plain values"),
        ({"name": "???"}, "only plain values"),
        ({"aug_name": "${aug_name}"}, "is resolved when a config is composed"),
        ({"hydra": {"job": {"chdir": True}}}, "how the program runs"),
        ({"defaults": ["train"]}, "no such key"),
        ({"seed": float("inf")}, "must be a finite number"),
        ({"aug": {"x": {"_target_": "albumentations.Rotate", "limit": [0, float("nan")]}}},
         "aug.x.limit.1=nan: must be a finite number"),
    ],
)  # fmt: skip
def test_what_a_folder_may_not_hold(folder, value, problem):
    changed(folder, **value)
    with pytest.raises(UserError, match=problem):
        folder.config()


@pytest.mark.parametrize(
    ("group", "target", "argument", "value"),
    [
        ("callbacks", "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath", "/"),
        ("callbacks", "pytorch_lightning.callbacks.SpikeDetection", "exclude_batches_path", "x"),
        ("callbacks", "augcam.training.callbacks.graceful_stop.GracefulStop", "checkpoint", "x"),
        ("callbacks", "pytorch_lightning.callbacks.Callback", "inner", {"out_dir": "x"}),
        ("logger", "pytorch_lightning.loggers.WandbLogger", "settings", {"base_url": "http://x"}),
        ("logger", "pytorch_lightning.loggers.WandbLogger", "entity", "team"),
        ("logger", "pytorch_lightning.loggers.TensorBoardLogger", "log_graph", True),
    ],
)
def test_where_a_run_is_sent_is_to_be_given_again(folder, group, target, argument, value):
    changed(folder, **{group: {"x": {"_target_": target, argument: value}}})
    kept = getattr(folder.config(), group)["x"]
    assert kept in ({"_target_": target}, {"_target_": target, "inner": {}})
    (key,) = to_give_again(folder.config_file)
    assert key.startswith(f"{group}.x.{argument}")
    assert is_given_again(key)
    with pytest.raises(UserError, match=rf"{key}: not for a run folder.*\+{key}="):
        primary_config([f"run={folder}"])
    name, rest = primary_config([f"run={folder}", f"+{key}=1"])
    assert (name, rest) == ("continuation", [f"+{key}=1"])


def test_a_callbacks_other_arguments_are_a_folders_to_say(folder):
    given = {"_target_": "pytorch_lightning.callbacks.Callback", "profile": "x", "direction": "min"}
    changed(folder, callbacks={"x": given})
    assert folder.config().callbacks["x"] == given


def test_where_loggers_write_is_not_taken_from_a_folder(folder):
    kinds = ("CSVLogger", "TensorBoardLogger", "WandbLogger", "MLFlowLogger")
    place = {"save_dir": "/elsewhere", "name": "../y"}
    changed(
        folder, logger={k: {"_target_": f"pytorch_lightning.loggers.{k}"} | place for k in kinds}
    )
    kept = {name: set(node) - {"_target_"} for name, node in folder.config().logger.items()}
    # W&B's name is the run's in its table, and no place.
    assert kept == {
        "CSVLogger": set(), "TensorBoardLogger": set(), "WandbLogger": {"name"},
        "MLFlowLogger": {"name"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x: !!python/name:os.system\n", "tags have no place"),
        ("x: !!str 1\n", "tags have no place"),
        ("x: &y 1\n", "anchors and aliases"),
        ("x: *y\n", "anchors and aliases|not a config"),
        ("name: a\nname: b\n", "duplicate key"),
        ("\tname: a\n", "line 1"),
        ("[" * 100, "20 levels deep"),
        ("- 1\n", "holds no config"),
        ("name: " + "x" * 300_000, "over 256 KB"),
    ],
)
def test_what_is_not_plain_yaml(folder, text, problem):
    folder.config_file.write_text(text)
    with pytest.raises(UserError, match=problem):
        read(folder.config_file, folder.hydra_file)


def test_a_message_quotes_nothing_of_what_is_no_yaml(folder):
    folder.config_file.write_text("password: hunter2: [\n")
    with pytest.raises(UserError) as refused:
        read(folder.config_file, folder.hydra_file)
    assert "hunter2" not in str(refused.value)


def test_a_link_that_leads_out_is_refused_and_one_inside_is_not(tmp_path, folder):
    (folder.path / "inside").symlink_to(folder.config_file)
    folder.config()
    (tmp_path / "elsewhere").mkdir()
    (folder.path / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="figures is a link"):
        folder.config()
    with pytest.raises(UserError, match="figures is a link"), folder.locked():
        pass


def test_nothing_is_looked_up_in_the_environment(folder, monkeypatch):
    looked_up: list[str] = []
    monkeypatch.setattr(os, "environ", _Noting(os.environ, looked_up))
    folder.config()
    assert set(looked_up) <= {"AUGCAM_DATA"}


class _Noting(dict):
    def __init__(self, content, seen: list[str]) -> None:
        super().__init__(content)
        self.seen = seen

    def get(self, key, default=None):
        self.seen.append(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.seen.append(key)
        return super().__getitem__(key)
