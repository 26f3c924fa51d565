"""Networks in the config: known names alone, and a label that follows from what is built."""

import pytest

from augcam.config.schema import plain, validate
from augcam.errors import UserError
from tests.conftest import compose


def model(*overrides: str):
    return validate(compose(overrides)).model


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ([], "resnet18"),
        (["model=resnet10"], "resnet10"),
        (["model.blocks=[3,4,6,3]"], "resnet34"),
        (["model.name=resnet10"], "resnet18"),  # a name alone changes nothing
        (["model=torchvision", "model.arch=resnet50"], "resnet50"),
        (["model=timm", "model.arch=vit_tiny_patch16_224"], "vit_tiny_patch16_224"),
    ],
)
def test_the_label_is_what_is_built(overrides, label):
    assert model(*overrides).label == label


def test_an_unknown_name_is_refused_with_the_nearest_and_the_way_to_others():
    with pytest.raises(UserError, match=r"(?s)model.name=resnet50: .*resnet10.*model=torchvision"):
        model("model.name=resnet50")
    with pytest.raises(UserError, match=r"model.name=mine: .*custom, resnet10, resnet18, timm"):
        model("model.name=mine")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model.width=12"], "model.width=12: .*multiple of 8"),
        (["model=torchvision"], "model.arch: must be given"),
        (["model=torchvision", "model.arch=resnet18", "model.stem=small"], "model.stem=small"),
        (
            ["model=torchvision", "model.arch=a", "model.pretrained=true", "model.weights=w.pt"],
            "model.weights=w.pt: give this or pretrained=true",
        ),
        (["model.whiten=true", "model.stem=imagenet"], "stem=imagenet: whiten=true goes with"),
        (["model.freeze=-1"], "model.freeze"),
        (["optim.head_lr=0"], "optim.head_lr=0: .*greater than 0"),
        (["model=custom", "model._target_=os.system"], "model._target_=os.system: only"),
    ],
)
def test_wrong_values_are_refused(overrides, problem):
    with pytest.raises(UserError, match=problem):
        model(*overrides)


def test_further_keys_are_arguments_of_the_network():
    config = model("model=torchvision", "model.arch=mobilenet_v3_small", "+model.dropout=0.1")
    assert config.arguments() == {"dropout": 0.1}


def test_a_config_of_a_run_before_these_keys_means_what_it_meant():
    tree = plain(validate(compose()))
    for key in ("stem", "init", "weights", "freeze", "whiten", "strides"):
        del tree["model"][key]
    del tree["optim"]["head_lr"]
    assert validate(tree) == validate(compose())
