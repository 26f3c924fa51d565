"""A classifier that was not trained here, from its architecture and a file of weights."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.runs.foreign import answer_among, load_network_from_file
from tests.conftest import compose

MOBILENET = validate(compose(["model=torchvision", "model.arch=mobilenet_v3_small"]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small(num_classes=3).eval()
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save({"model": network.state_dict()}, path)
    return path, network


@pytest.mark.parametrize("size", [96, 64])
def test_it_predicts_as_it_did_where_it_was_trained(weights, size):
    path, theirs = weights
    run = load_network_from_file(MOBILENET, path, size, ["cat", "dog", "bird"])
    assert run.classes == ("cat", "dog", "bird")
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    prepare = torchvision.transforms.Compose(
        [
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    with torch.no_grad():
        expected = theirs(torch.stack([prepare(image) for image in images])).softmax(dim=1)
    torch.testing.assert_close(run.predict(run.normalize(images)), expected, atol=1e-5, rtol=1e-4)


def test_classes_without_names_are_numbered(weights):
    run = load_network_from_file(MOBILENET, weights[0], 96)
    assert run.classes == ("class 0", "class 1", "class 2")
    assert run.images.shape == (0, 96, 96, 3)


def test_names_that_are_not_as_many_as_the_outputs_are_refused(weights):
    with pytest.raises(UserError, match="3 classes, but 2 names"):
        load_network_from_file(MOBILENET, weights[0], 96, ["cat", "dog"])


def test_another_networks_weights_are_refused(weights):
    other = validate(compose(["model=torchvision", "model.arch=squeezenet1_1"]))
    with pytest.raises(UserError, match="not the weights of this SqueezeNet"):
        load_network_from_file(other, weights[0], 96)


@pytest.mark.parametrize(("stem", "stride"), [("auto", 2), ("cifar", 1)])
def test_a_network_of_small_images_has_the_stem_for_them_only_where_that_is_asked(
    weights, stem, stride
):
    asked = MOBILENET.model_copy(
        update={"model": MOBILENET.model.model_copy(update={"stem": stem})}
    )
    network = load_network_from_file(asked, weights[0], 32).network
    assert network.get_submodule("features.0.0").stride == (stride, stride)


def test_a_network_answers_among_some_of_its_classes_in_the_order_that_is_asked_for():
    network = nn.Identity()  # its logits are what it is given
    answer_among(network, [3, 0, 2])
    logits = torch.tensor([[10.0, 11.0, 12.0, 13.0], [20.0, 21.0, 22.0, 23.0]])
    assert network(logits).tolist() == [[13.0, 10.0, 12.0], [23.0, 20.0, 22.0]]
