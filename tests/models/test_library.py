"""torchvision's and timm's networks by name, with the head and the weights that a run needs."""

import urllib.error

import pytest
import torch
import torchvision.models as zoo

from augcam.errors import UserError
from augcam.models.library import pretrained_weights, timm_network, torchvision_network


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32"])
def test_torchvisions_network_has_as_many_outputs_as_classes(arch):
    network = torchvision_network(arch, num_classes=7, image_size=64).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_resnet50_is_torchvisions_own():
    network = torchvision_network("resnet50", num_classes=10, image_size=224)
    # 25,557,032 of the 1000-class original, whose head has 2049 parameters a class.
    assert sum(p.numel() for p in network.parameters()) == 25_557_032 - 990 * 2049


def test_networks_with_auxiliary_outputs_give_one_in_training():
    logits = torchvision_network("googlenet", num_classes=3, image_size=64)(
        torch.rand(2, 3, 64, 64)
    )
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "resnet10t"])
def test_timms_network_takes_images_of_the_runs_size(arch):
    pytest.importorskip("timm")
    network = timm_network(arch, num_classes=7, image_size=64).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_an_unknown_architecture_gives_the_nearest_names():
    with pytest.raises(UserError, match=r"model.arch=resnet51: unknown to torchvision.*resnet50"):
        torchvision_network("resnet51", 10, 224)
    pytest.importorskip("timm")
    with pytest.raises(UserError, match=r"vit_tini_patch16_224: unknown to timm.*vit_tiny_patch16"):
        timm_network("vit_tini_patch16_224", 10, 224)


def test_a_size_or_an_argument_that_the_network_refuses_is_an_error():
    with pytest.raises(UserError, match=r"model.arch=vit_b_16, images of 100 pixels: .*patch size"):
        torchvision_network("vit_b_16", 10, 100)
    with pytest.raises(UserError, match=r"model.arch=resnet18.*unexpected.*'depth'"):
        torchvision_network("resnet18", 10, 224, depth=3)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A cache of torchvision's weights that holds ours for mobilenet_v3_small, and no network."""

    def offline(*arguments, **options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    file = zoo.get_model_weights("mobilenet_v3_small").DEFAULT.url.rpartition("/")[2]
    torch.manual_seed(3)
    network = zoo.mobilenet_v3_small()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "hub" / "checkpoints" / file)
    return network.state_dict()


def test_pretrained_weights_come_from_the_cache(published):
    state = pretrained_weights("torchvision", "mobilenet_v3_small", 10, 224)
    assert state.keys() == published.keys()
    assert torch.equal(state["features.0.0.weight"], published["features.0.0.weight"])


def test_without_network_the_message_gives_the_way_out(published):
    with pytest.raises(UserError, match=r"resnet18 cannot be fetched .*model.weights=FILE"):
        pretrained_weights("torchvision", "resnet18", 10, 224)


def test_an_architecture_without_published_weights_is_an_error(published, monkeypatch):
    monkeypatch.setattr(zoo, "get_model_weights", lambda arch: [])
    with pytest.raises(UserError, match="torchvision publishes no weights for it"):
        pretrained_weights("torchvision", "resnet18", 10, 224)
