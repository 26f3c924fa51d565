"""From a config to the network of a run, and to the weights that it begins with."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from augcam.config.schema import Config, validate
from augcam.errors import UserError
from augcam.runs.build import (
    build_data,
    build_mix,
    build_network,
    build_run_pipeline,
    build_source,
    image_size,
    start_from_weights,
)
from tests.conftest import compose

MOBILENET = ("model=torchvision", "model.arch=mobilenet_v3_small")


def configured(*overrides: str):
    return validate(compose(overrides))


def strides(network: nn.Module) -> list[tuple[int, ...]]:
    return [m.stride for m in network.modules() if isinstance(m, nn.Conv2d)][:1]


FOLDER = ("data=folder", "data.root=x")
SVHN = ("data=torchvision", "data.dataset=SVHN")
ALPHAS = ("mix=mixup_cutmix", "mix.mixup.alpha=0.3", "mix.cutmix.alpha=0.7")
SMALL = ("model=resnet10", "model.width=8")


def source(config: Config) -> Any:
    return build_source(config)


def transforms(config: Config) -> Any:
    return build_run_pipeline(config, build_source(config)).transforms


def kinds(config):
    return [(type(kind).__name__, kind.alpha) for kind in build_mix(config).kinds]


def stage_strides(config: Config) -> list[int]:
    network: Any = build_network(config, 10)
    return [network.get_submodule(f"layer{n}.0.conv1").stride[0] for n in (1, 2, 3, 4)]


def spread(config):
    """The standard deviation of weights from 64 channels to 64."""
    return float(build_network(config, 10).get_parameter("layer4.0.conv2.weight").detach().std())


@pytest.mark.parametrize(
    ("overrides", "found", "expected"),
    [
        (["data=shapes", "data.shortcut=0.3"], lambda c: source(c).shortcut, 0.3),
        (["data=shapes", "data.orientation_pair=true"],
         lambda c: source(c).orientation_pair, True),
        ([*FOLDER, "data.masks=m"], lambda c: source(c).masks.name, "m"),
        ([*SVHN, "data.download=true"], lambda c: source(c).download, True),
        (["aug=rotate", "aug_strength=0.2"], lambda c: transforms(c)["rotate"].limit, (-3, 3)),
        (["aug=augmix", "aug.augmix.fill=0", "loss.jsd=12"], lambda c: build_data(c).views, 3),
        (["aug=augmix", "aug.augmix.fill=0"], lambda c: build_data(c).views, 1),
        (ALPHAS, kinds, [("MixUp", 0.3), ("CutMix", 0.7)]),
        (["mix=mixup"], kinds, [("MixUp", 1)]),
        (["mix=cutmix"], kinds, [("CutMix", 1)]),
        (["mix=mixup", "mix.p=0.4"], lambda c: build_mix(c).p, 0.4),
        (["mix=mixup", "mix.p=0.4"], lambda c: build_data(c).mix.p, 0.4),
        ([*SMALL, "model.strides=[2,1,2,1]"], stage_strides, [2, 1, 2, 1]),
        # Kaiming normal with fan out; PyTorch's own is uniform over +-1/sqrt(fan in).
        ([*SMALL, "model.init=he"], spread, pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)),
        ([*SMALL, "model.init=torch"], spread, pytest.approx((3 * 9 * 64) ** -0.5, rel=0.03)),
    ],
    ids=lambda value: value[-1] if isinstance(value, list | tuple) else "",
)  # fmt: skip
def test_what_a_key_says_is_what_is_built(overrides, found, expected):
    assert found(configured(*overrides)) == expected


def test_the_stem_follows_the_size_of_the_images():
    assert strides(build_network(configured(*MOBILENET), 10)) == [(1, 1)]
    folder = ("data=folder", "data.root=x", "data.image_size=224")
    assert strides(build_network(configured(*MOBILENET, *folder), 10)) == [(2, 2)]
    assert strides(build_network(configured(*MOBILENET, "model.stem=imagenet"), 10)) == [(2, 2)]
    assert strides(build_network(configured(*folder), 10)) == [(1, 1)]  # ours: as it always was
    assert strides(build_network(configured(*folder, "model.stem=auto"), 10)) == [(2, 2)]


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        (["data=cifar10"], 32),
        (["data=shapes"], 32),
        (["data=torchvision", "data.dataset=SVHN"], 32),
        (["data=torchvision", "data.dataset=STL10"], 96),
        (["data=torchvision", "data.dataset=STL10", "data.image_size=48"], 48),
        (["data=folder", "data.root=x", "data.image_size=224"], 224),
    ],
)
def test_the_size_of_the_images_follows_from_the_config(overrides, size):
    assert image_size(configured(*overrides)) == size


def test_auto_leaves_networks_of_patches_alone():
    network = build_network(configured("model=torchvision", "model.arch=swin_t"), 10)
    assert strides(network) == [(4, 4)]


def test_frozen_parts_are_frozen_in_every_network():
    network = build_network(configured(*MOBILENET, "model.freeze=[features]"), 10)
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {"classifier"}


def test_a_network_that_cannot_take_the_images_is_refused():
    with pytest.raises(UserError, match=r"inception_v3 cannot take images of 32x32 pixels"):
        build_network(configured("model=torchvision", "model.arch=inception_v3"), 10)


def test_weights_from_a_file_all_but_a_head_of_other_classes(tmp_path):
    theirs = torchvision.models.mobilenet_v3_small(num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    config = configured(*MOBILENET, f"model.weights={tmp_path}/w.pt")
    network = build_network(config, 10)
    new = start_from_weights(network, config, 10)
    assert new == ["classifier.3.weight", "classifier.3.bias"]
    assert torch.equal(network.get_parameter("features.0.0.weight"), theirs.features[0][0].weight)


def test_a_network_whose_head_is_no_layer_begins_without_weights():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Parameter(torch.zeros(3, 10))

        def forward(self, images):
            return images.mean(dim=(2, 3)) @ self.head

    assert start_from_weights(Net(), configured("model=resnet10"), 10) == []


def test_pretrained_means_a_new_head_even_with_as_many_classes(monkeypatch):
    theirs = torchvision.models.resnet18()
    monkeypatch.setattr("augcam.runs.build.pretrained_weights", lambda *a, **k: theirs.state_dict())
    config = configured("model=torchvision", "model.arch=resnet18", "model.pretrained=true")
    network = build_network(config, 1000)
    new = start_from_weights(network, config, 1000)
    assert new == ["conv1.weight", "fc.weight", "fc.bias"]  # the stem for small images is another
    assert torch.equal(
        network.get_parameter("layer1.0.conv1.weight"), theirs.layer1[0].conv1.weight
    )
    assert not torch.equal(network.get_parameter("fc.weight"), theirs.fc.weight)


def test_what_stays_new_must_not_be_frozen(monkeypatch):
    theirs = torchvision.models.resnet18()
    monkeypatch.setattr("augcam.runs.build.pretrained_weights", lambda *a, **k: theirs.state_dict())
    words = ("model=torchvision", "model.arch=resnet18", "model.pretrained=true", "model.freeze=2")
    config = configured(*words)
    with pytest.raises(UserError, match=r"model\.freeze=2: conv1\.weight would stay random"):
        start_from_weights(build_network(config, 10), config, 10)
    config = configured(*words, "model.stem=imagenet")
    new = start_from_weights(build_network(config, 10), config, 10)
    assert new == ["fc.weight", "fc.bias"]


def test_rebuilding_a_network_fetches_nothing(monkeypatch):
    def fetched(*arguments, **options):
        raise AssertionError("fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetched)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    build_network(configured(*MOBILENET, "model.pretrained=true"), 10)


def test_a_missing_file_of_weights_is_an_error():
    config = configured("model=resnet10", "model.weights=nowhere.pt")
    with pytest.raises(UserError, match=r"weights=nowhere.pt: there is no such file"):
        start_from_weights(build_network(config, 10), config, 10)
