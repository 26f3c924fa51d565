"""A run's name tells what was changed of its augmentation; a folder's name is short and safe."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import augcam.config.compose  # noqa: F401 - its resolvers
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "crop_flip_cutout"),
        (["~aug.cutout"], "crop_flip_cutout_-cutout"),
        (["aug.cutout=null"], "crop_flip_cutout_-cutout"),
        (["+aug/op@aug.blur=blur"], "crop_flip_cutout_+blur"),
        (["+aug/op@aug.soft=blur", "~aug.crop"], "crop_flip_cutout_+soft=blur_-crop"),
        (["aug=rotate", "aug.rotate.limit=30", "optim.lr=0.1"], "rotate_rotate.limit=30"),
        (["aug=rotate", "aug.rotate.limit=[-30,30]"], "rotate_rotate.limit=--30,30-"),
        (["aug=flip", "name=mine"], "mine"),
        (["seed=3"], "crop_flip_cutout"),
    ],
)
def test_the_name_tells_what_was_changed(overrides, name):
    """`~aug.cutout` and `+aug/op@aug.blur=blur` were both called crop_flip_cutout."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        tree = compose("train", overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(tree)
    try:
        assert tree.name == name
    finally:
        HydraConfig.instance().cfg = None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("aug.rotate.limit=13.248231874561234,seed=1", "aug.rotate.limit=13.2482,seed=1"),
        ("optim.lr=4.3219876543210987e-05", "optim.lr=4.32199e-05"),
        ("optim.lr=0.1,aug.rotate.limit=-12.345678901234567", "optim.lr=0.1,aug.rotate.limit=-12.3457"),
        ("optim.lr=0.12345678", "optim.lr=0.12345678"),  # written by a person
        ("trainer.precision=16-mixed", "trainer.precision=16-mixed"),
        ("aug=none,seed=1", "aug=none,seed=1"),
    ],
)  # fmt: skip
def test_numbers_that_a_search_drew_are_short_in_folder_names(text, name):
    assert OmegaConf.create({"name": f"${{short:'{text}'}}"}).name == name
