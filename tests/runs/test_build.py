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
    check_logits,
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


class Views(nn.Module):
    """Flattens as the tutorials do: torch refuses it where what comes in lies channels_last."""

    def __init__(self, num_classes: int, maps: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, maps, 3, stride=8)
        self.head = nn.Linear(maps * 16, num_classes)

    def forward(self, images):
        maps = self.conv(images)
        return self.head(maps.view(maps.size(0), -1))


class TwoOutputs(nn.Module):
    """Logits, and in training an auxiliary output beside them."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        logits = self.head(images.mean(dim=(2, 3)))
        return (logits, logits) if self.training else logits


class Pairs(nn.Module):
    """Trains on four images or more: BatchNorm sees half as many as there are."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        seen = images.mean(dim=(2, 3))
        half = len(seen) // 2
        return self.head(torch.cat([self.norm(seen[:half]), self.norm(seen[half:])]))


@pytest.fixture
def own(monkeypatch):
    """The config of a network of this file."""
    monkeypatch.setattr("augcam.config.build._trusted", {"tests"})

    def own(kind: type[nn.Module], *overrides: str) -> Config:
        return configured("model=custom", f"model._target_={__name__}.{kind.__name__}", *overrides)

    return own


def test_a_network_that_flattens_with_view_runs_where_channels_last_is_off(own):
    batch = torch.rand(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    assert build_network(own(Views, "model.channels_last=false"), 10)(batch).shape == (4, 10)
    with pytest.raises(UserError, match=r"Views cannot .*\nmodel.channels_last=false, or .flatten"):
        build_network(own(Views), 10)


def test_a_network_lies_in_memory_as_its_batches_do():
    network = build_network(configured(*SMALL), 10)
    weight = network.get_parameter("conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


class Own(nn.Module):
    """Its head is no layer that torch has."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Parameter(torch.zeros(8, num_classes))

    def forward(self, images):
        return self.conv(images).mean(dim=(2, 3)) @ self.head


def test_parts_are_frozen_by_name_whatever_the_head(own):
    network = build_network(own(Own, "model.freeze=[conv]"), 10)
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["head"]


def test_what_needs_the_head_names_the_key_that_asks_for_it(own):
    with pytest.raises(UserError, match=r"^model.freeze=1: needs to know the head of Own"):
        build_network(own(Own, "model.freeze=1"), 10)
    weights = own(Own, "model.weights=w.pt")
    with pytest.raises(UserError, match=r"^model.weights=w.pt: needs to know the head of Own"):
        start_from_weights(build_network(weights, 10), weights, 10)


def test_a_network_that_gives_more_than_logits_in_training_is_refused_there_alone(own):
    config = own(TwoOutputs)
    network = build_network(config, 10)  # which is enough for one that is only asked
    with pytest.raises(UserError, match=r"gives tuple for 2 images of 10 classes in training"):
        check_logits(network, config.model, 10, 32, training=True)


def test_a_network_that_cannot_train_on_two_images_is_not_refused_for_it(own):
    config = own(Pairs)
    check_logits(build_network(config, 10), config.model, 10, 32, training=True)


def test_the_question_leaves_a_network_as_it_was(own):
    class Net(nn.Sequential):
        def __init__(self):
            norm = nn.BatchNorm2d(3)
            super().__init__(nn.Dropout(), norm.eval(), nn.BatchNorm2d(3), nn.Flatten(),
                             nn.Linear(3 * 64, 10))  # fmt: skip

    network, config = Net(), own(Views)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    for training in (True, False):
        check_logits(network, config.model, 10, 8, training)
        assert torch.equal(torch.get_rng_state(), drawn)
        assert [module.training for module in network] == [True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


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
