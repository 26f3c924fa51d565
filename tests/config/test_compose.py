"""The composer: names, sweeps, and values that Hydra's grammar has no word for."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from augcam.config.compose import CONF, compose, quoted, sweep_jobs
from augcam.config.schema import plain, validate
from augcam.errors import UserError


def test_a_home_folder_may_be_given_as_the_readme_writes_it():
    config = validate(compose(["data=folder", "data.root=~/flowers", "data.image_size=64"]))
    assert plain(config)["data"]["root"] == "~/flowers"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("data.root=~/flowers", "data.root='~/flowers'"),
        ("data.root=~", "data.root='~'"),
        ("data.root=~/a,~/b", "data.root='~/a','~/b'"),
        ("x=[~/a,~/b]", "x=['~/a','~/b']"),
        ("data.root='~/a'", "data.root='~/a'"),
        ("~aug.cutout", "~aug.cutout"),
        ("~scheduler=onecycle", "~scheduler=onecycle"),
        ("name=a~b", "name=a~b"),
    ],
)
def test_what_is_quoted(written, expected):
    assert quoted(written) == expected


@pytest.mark.parametrize("key", ["hydra.run.dir", "sweep.dir", "hydra.sweep.dir", "++sweep.dir"])
def test_the_folder_of_a_run_or_sweep_can_be_in_the_home_folder(monkeypatch, key):
    monkeypatch.setenv("HOME", "/home/me")
    assert quoted(f"{key}=~/runs/1") == f"{key}='/home/me/runs/1'"
    assert quoted(f"{key}=~nobody_of_this_name/1") == f"{key}='~nobody_of_this_name/1'"


def test_names_follow_the_choice_and_can_be_given():
    assert compose(["aug=cutout_rotate"]).aug_name == "cutout_rotate"
    assert compose(["aug=cutout_rotate", "name=mine"]).name == "mine"
    assert compose(["experiment=paper/cutout"]).name == "paper_crop_flip_cutout"


def test_the_jobs_of_a_sweep_are_every_combination():
    assert sweep_jobs(["aug=none,flip", "seed=range(1,3)", "data=shapes"]) == [
        ["aug=none", "seed=1", "data=shapes"], ["aug=none", "seed=2", "data=shapes"],
        ["aug=flip", "seed=1", "data=shapes"], ["aug=flip", "seed=2", "data=shapes"],
    ]  # fmt: skip
    files = [path.stem for path in (CONF / "aug").glob("*.yaml")]
    assert sorted(sweep_jobs(["aug=glob(*)"])) == sorted([f"aug={name}"] for name in files)
    assert sweep_jobs(["aug.rotate.limit=interval(0,45)"]) == [["aug.rotate.limit=interval(0,45)"]]


@pytest.mark.parametrize("empty", ["seed=range(0)", "aug=glob(zzz*)"])
def test_a_sweep_of_nothing_is_refused(empty):
    with pytest.raises(UserError, match="there is nothing"):
        sweep_jobs([empty])


def test_a_name_is_one_folder():
    for name in ("../../../esc", "..", ".hidden", "a/b", "x" * 3000):
        short = OmegaConf.create({"x": "${short:${name}}", "name": name}).x
        assert Path("outputs", short).resolve().parent == Path("outputs").resolve()
        assert len(short) < 200


def test_a_group_whose_choice_is_a_number_is_refused_in_words():
    with pytest.raises(UserError, match="data=0: unknown; there is: cifar10"):
        compose(["data=0"])
    with pytest.raises(UserError, match="hydra/sweeper=626: unknown; a choice is a name"):
        compose(["hydra/sweeper=626"])
