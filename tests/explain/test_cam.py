"""Maps against captum, pytorch-grad-cam, torchcam and arithmetic; and that nothing stays behind."""

import copy

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam.methods import GradCAM as TorchCam

from augcam.errors import UserError
from augcam.explain.cam import GradCAM
from augcam.models.resnet import resnet

LAYERS = ("layer1", "layer2", "layer3", "layer4", "layer4.1.bn2")
CLASSES = 10


def lively(model: nn.Module) -> nn.Module:
    """Give BatchNorm the statistics of a network that has lived, so that no map is degenerate."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)
    # Large logits: the epsilons of the other libraries must not show.
    model.get_parameter("fc.weight").data *= 1e4
    return model.eval()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return lively(resnet(CLASSES, width=8))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> Tensor:
    return torch.arange(8) % CLASSES


def explain(model, images, targets=None, layers=LAYERS, method="gradcam"):
    with GradCAM(model, layers, method) as cam:
        return cam(images, targets)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of any sample, as a share of that sample's peak."""
    peak = theirs.abs().amax(dim=(1, 2))
    return float(((ours - theirs).abs().amax(dim=(1, 2)) / peak).max())


def stretch(raw: Tensor) -> Tensor:
    """ReLU, then each sample to [0, 1]: what torchcam calls normalized."""
    positive = raw.relu()
    low = positive.amin(dim=(1, 2), keepdim=True)
    return (positive - low) / (positive.amax(dim=(1, 2), keepdim=True) - low)


class LinearNet(nn.Module):
    """Logits = weights x mean over space of the image's channels: maps are known by arithmetic."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.features: nn.Module = nn.Identity()
        self.fc = nn.Linear(3, len(weights))
        self.fc.weight.data = torch.tensor(weights)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images).mean(dim=(2, 3)))


def one_channel(cells: list[list[float]]) -> Tensor:
    image = torch.zeros(1, 3, len(cells), len(cells[0]))
    image[0, 0] = torch.tensor(cells)
    return image


# --- against other implementations ---------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_raw_maps_are_captums_in_a_batch_of_32(model, dtype, bound):
    torch.manual_seed(2)
    model, images = model.to(dtype), torch.randn(32, 3, 32, 32, dtype=dtype)
    targets = torch.arange(32) % CLASSES
    maps = explain(model, images, targets)
    assert list(maps) == list(LAYERS)
    for layer in LAYERS:
        oracle = LayerGradCam(model, model.get_submodule(layer))
        theirs = oracle.attribute(images, targets, relu_attributions=False)[:, 0].detach()
        assert maps[layer].raw.dtype == dtype
        assert relative(maps[layer].raw, theirs) <= bound, layer


def test_raw_maps_are_captums_on_the_full_resnet18(images, targets):
    torch.manual_seed(0)
    model = lively(resnet(CLASSES))
    maps = explain(model, images, targets)
    for layer in ("layer1", "layer4.1.bn2"):
        oracle = LayerGradCam(model, model.get_submodule(layer))
        theirs = oracle.attribute(images, targets, relu_attributions=False)[:, 0].detach()
        assert relative(maps[layer].raw, theirs) <= 1e-5


PEERS = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcam++": pytorch_grad_cam.GradCAMPlusPlus,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
}


@pytest.mark.parametrize("method", PEERS)
def test_heatmaps_are_pytorch_grad_cams(model, images, targets, method):
    if method == "gradcam++":
        model.fc.weight.data *= 100  # its epsilon of 1e-6 stands beside squared gradients
    maps = explain(model, images, targets, method=method)
    for layer in ("layer1", "layer3", "layer4"):
        theirs = PEERS[method](model, [model.get_submodule(layer)])
        expected = theirs(images, [ClassifierOutputTarget(int(label)) for label in targets])
        usable = maps[layer].status_code == 0
        assert usable.sum() >= 4
        np.testing.assert_allclose(
            maps[layer].heatmap[usable], expected[usable], atol=1e-5, err_msg=layer
        )


def test_maps_are_torchcams_after_its_normalisation(model, images, targets):
    layers: list[str | nn.Module] = ["layer1", "layer2", "layer3", "layer4"]
    maps = explain(model, images, targets)
    with TorchCam(model, layers) as peer:
        expected = peer(targets.tolist(), model(images))
    for layer, theirs in zip(layers, expected, strict=True):
        usable = maps[layer].status_code == 0
        ours = stretch(maps[layer].raw[usable])
        torch.testing.assert_close(ours, theirs[usable], atol=1e-5, rtol=0)


# --- against arithmetic --------------------------------------------------------------------------


def test_maps_of_the_last_stage_add_up_to_the_logit_and_are_the_cam(model, images, targets):
    model, images = model.double(), images.double()
    maps = explain(model, images, targets)
    raw = maps["layer4"].raw
    logit = maps.logits.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(raw.sum(dim=(1, 2)), logit - model.fc.bias[targets].detach())

    kept = []
    with model.layer4.register_forward_hook(lambda *call: kept.append(call[2])), torch.no_grad():
        logits = model(images)
    cam = torch.einsum("bk,bkhw->bhw", model.fc.weight[targets].detach(), kept[0]) / 16
    torch.testing.assert_close(raw, cam)
    torch.testing.assert_close(maps.logits, logits)


def test_each_method_by_hand():
    # One channel A = [[1, 2], [3, 6]], weight 2: gradient 2 / 4 everywhere, sum of A 12.
    model, image = LinearNet([[2.0, 0.0, 0.0]]), one_channel([[1, 2], [3, 6]])
    for method in ("gradcam", "hirescam", "layercam"):
        raw = explain(model, image, layers="features", method=method)["features"].raw
        assert raw.tolist() == [[[0.5, 1.0], [1.5, 3.0]]]
    # Shares 1 / (2 + 12 / 2) = 1/8 each; the weight is 4 cells x 0.5 x 1/8 = 1/4.
    raw = explain(model, image, layers="features", method="gradcam++")["features"].raw
    assert raw.tolist() == [[[0.25, 0.5], [0.75, 1.5]]]


def test_heatmap_is_bilinear_between_cell_centres_and_fills_0_to_1():
    class Pooled(LinearNet):
        def __init__(self) -> None:
            super().__init__([[1.0, 0.0, 0.0]])
            self.features = nn.AvgPool2d(2)

    image = one_channel([[0, 0, 5, 5]] * 4)
    maps = explain(Pooled(), image, layers="features")["features"]
    # Cells 0 and 1 lie 2 pixels apart; pixel centres a quarter and three quarters between.
    assert maps.heatmap.tolist() == [[[0.0, 0.25, 0.75, 1.0]] * 4]
    assert maps.status == ("ok",)


def test_two_targets_give_the_difference_of_their_maps(model, images):
    model, images = model.double(), images.double()
    first, second = torch.arange(8) % CLASSES, (torch.arange(8) + 3) % CLASSES
    both = explain(model, images, torch.stack([first, second], dim=1))
    one, other = explain(model, images, first), explain(model, images, second)
    for layer in LAYERS:
        torch.testing.assert_close(both[layer].raw, one[layer].raw - other[layer].raw)


def test_no_targets_means_the_predicted_classes(model, images):
    maps = explain(model, images)
    with torch.no_grad():
        predicted = model(images).argmax(dim=1)
    assert maps.targets.tolist() == predicted.tolist()
    torch.testing.assert_close(maps["layer3"].raw, explain(model, images, predicted)["layer3"].raw)


def test_a_sample_does_not_depend_on_its_batch_mates(model, images, targets):
    model, images = model.double().train(), images.double()
    together = explain(model, images, targets)["layer2"].raw
    alone = explain(model, images[2:3], targets[2:3])["layer2"].raw
    torch.testing.assert_close(together[2:3], alone)


def test_status_tells_degenerate_maps_apart():
    weights = [[1.0, 0, 0], [-1.0, 0, 0], [0.0, 0, 0]]
    cells = [[0.1, 0.2], [0.3, 0.7]]
    nan, infinite = ([[0.1, float(odd)], [0.0, 1.0]] for odd in ("nan", "inf"))
    flat = [[4.0] * 2] * 2
    images = torch.cat([one_channel(c) for c in (cells, cells, cells, flat, flat, nan, infinite)])
    targets = [0, 1, 2, 0, 1, 0, 0]
    maps = explain(LinearNet(weights), images, targets, layers="features")["features"]
    assert maps.status == (
        "ok", "no_positive_evidence", "constant", "constant", "constant", "nonfinite", "nonfinite",
    )  # fmt: skip
    assert maps.heatmap[0].min() == 0
    assert maps.heatmap[0].max() == 1
    assert not maps.heatmap[1:].any()


# --- whatever surrounds it -----------------------------------------------------------------------


def same_maps(ours, reference) -> None:
    for layer in reference:
        torch.testing.assert_close(ours[layer].raw, reference[layer].raw, rtol=0, atol=0)
        assert not ours[layer].raw.requires_grad
        assert not ours[layer].raw.is_inference()


def test_frozen_weights(model, images, targets):
    reference = explain(model, images, targets)
    same_maps(explain(model.requires_grad_(False), images, targets), reference)


def test_train_mode(model, images, targets):
    reference = explain(model, images, targets)
    same_maps(explain(model.train(), images, targets), reference)


def test_inference_mode(model, images, targets):
    reference = explain(model, images, targets)
    with torch.inference_mode():
        same_maps(explain(model, images.clone(), targets.clone()), reference)
        born_inside = resnet(CLASSES, width=8).eval()
        born_inside.load_state_dict(model.state_dict())
        same_maps(explain(born_inside, images.clone(), targets), reference)
    with torch.no_grad():
        same_maps(explain(model, images, targets), reference)


def test_autocast_around_and_inside_the_model(model, images, targets):
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, images: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.network(images)

    reference = explain(model, images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        same_maps(explain(model, images, targets), reference)
    maps = explain(Inside(), images[:2], targets[:2], layers="network.layer4")
    assert maps["network.layer4"].raw.dtype == maps.logits.dtype == torch.float32


def test_half_precision_weights_are_explained_in_float32(model, images, targets):
    half = copy.deepcopy(model).bfloat16()
    reference = explain(copy.deepcopy(half).float(), images, targets)
    same_maps(explain(half, images, targets), reference)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.bn1.running_mean.dtype == torch.bfloat16


def test_channels_last(model, images, targets):
    # In float64: in float32 another order of summation can move a ReLU across its kink.
    model, images = model.double(), images.double()
    reference = explain(model, images, targets)
    strided = images.to(memory_format=torch.channels_last)
    for network in (model, copy.deepcopy(model).to(memory_format=torch.channels_last)):
        maps = explain(network, strided, targets)
        for layer in LAYERS:
            torch.testing.assert_close(maps[layer].raw, reference[layer].raw)


@pytest.mark.parametrize("how", ["wrapped", "in place", "a part"])
def test_compiled_models(model, images, targets, how):
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph

    images, targets = images[:2], targets[:2]
    reference = explain(model, images, targets)
    compiled = model
    if how == "wrapped":
        compiled = torch.compile(model, backend=backend)
    elif how == "in place":
        model.compile(backend=backend)
    else:
        model.layer4.compile(backend=backend)
    with torch.no_grad():
        logits = compiled(images)  # hooks added after the first call would never fire
        count = len(graphs)
        assert count > 0
        same_maps(explain(compiled, images, targets), reference)
        torch.testing.assert_close(compiled(images), logits)
    assert len(graphs) == count, "compiled again afterwards"


def test_a_trunk_that_runs_without_gradients(model, images, targets):
    class Tuned(nn.Module):
        """Transfer learning as it is often written: no_grad around all but the head."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(*list(copy.deepcopy(model).children())[:-1])
            self.fc = model.fc

        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.trunk(images)
            return self.fc(features.flatten(1))

    reference = explain(model, images, targets, layers=("layer3", "layer4"))
    maps = explain(Tuned(), images, targets, layers=("trunk.6", "trunk.7"))
    for ours, theirs in zip(maps, reference, strict=True):
        torch.testing.assert_close(maps[ours].raw, reference[theirs].raw)


def test_one_context_serves_many_calls_and_leaves_the_users_own_alone(model, images, targets):
    with GradCAM(model, "layer4.1.bn2") as cam:
        first = cam(images[:3], targets[:3])["layer4.1.bn2"].raw
        assert model(images).requires_grad
        again = cam(images, targets)["layer4.1.bn2"].raw
    torch.testing.assert_close(first, again[:3])
    with pytest.raises(RuntimeError, match="with GradCAM"):
        cam(images, targets)


# --- no trace ------------------------------------------------------------------------------------


def trace(model: nn.Module) -> list:
    """All that a call could leave behind."""
    return [
        torch.random.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        [(id(p), p._version, p.requires_grad, p.is_leaf) for p in model.parameters()],
        [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        [(name, id(b), b.numpy().tobytes()) for name, b in model.named_buffers()],
        [m.training for m in model.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
    ]


class Restless(nn.Module):
    """Draws random numbers whatever its mode, and raises when told."""

    error: BaseException | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.error:
            raise self.error
        return F.dropout(images, 0.1, training=True)


@pytest.mark.parametrize("error", [None, RuntimeError("out of memory"), KeyboardInterrupt()])
def test_leaves_no_trace(model, images, targets, error):
    model.layer4.append(Restless())
    model.train()
    model.layer2.eval()
    model.layer1.requires_grad_(False)
    model(images).sum().backward()
    before = trace(model)
    model.layer4[-1].error = error
    if error:
        with pytest.raises(type(error)), GradCAM(model, LAYERS) as cam:
            cam(images, targets)
    else:
        explain(model, images, targets)
    assert trace(model) == before


def test_a_refused_request_leaves_no_trace_and_the_context_usable(model, images, targets):
    before = trace(model)
    with GradCAM(model, "layer4") as cam:
        with pytest.raises(UserError):
            cam(images, targets + CLASSES)
        reference = explain(model, images, targets, layers="layer4")
        same_maps(cam(images, targets), reference)
    assert trace(model) == before


# --- wrong requests ------------------------------------------------------------------------------


def test_an_unknown_layer_gives_the_valid_ones(model):
    with pytest.raises(UserError, match=r"(?s)layer5.*layer4.*conv1, layer1"):
        GradCAM(model, ("layer4", "layer5"))


def test_an_unknown_method_gives_the_known_ones(model):
    with pytest.raises(UserError, match=r"smoothgrad.*gradcam, gradcam\+\+, hirescam, layercam"):
        GradCAM(model, "layer4", method="smoothgrad")


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        ("fc", "no spatial extent"),
        ("avgpool", r"no spatial extent: it gives \(8, 64, 1, 1\)"),
        ("layer4.0.relu", "runs 2 times"),
    ],
)
def test_a_layer_without_one_spatial_map_is_refused(model, images, layer, problem):
    with pytest.raises(UserError, match=rf"(?s){layer}.*{problem}.*\bconv1, .*layer4"):
        explain(model, images, layers=layer)


def test_a_layer_that_has_no_part_in_the_logits_is_refused(images):
    class Side(LinearNet):
        def __init__(self) -> None:
            super().__init__([[1.0, 1.0, 1.0]])
            self.idle, self.deaf = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            self.deaf(images)
            return super().forward(images)

    with pytest.raises(UserError, match="'idle' does not run"):
        explain(Side(), images, layers="idle")
    with pytest.raises(UserError, match="do not depend on layer 'deaf'"):
        explain(Side(), images, layers="deaf")


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        ([10] * 8, "Target 10 is not a class: 0 to 9"),
        ([-1] * 8, "Target -1 is not a class"),
        ([0] * 7, r"shape \(7,\).*\(8,\), or \(8, 2\)"),
        (torch.zeros(8, 3, dtype=torch.int64), r"shape \(8, 3\)"),
        (torch.zeros(8), "integer class indices, not torch.float32"),
        (torch.zeros(8, dtype=torch.bool), "not torch.bool"),
        (torch.zeros(8, dtype=torch.complex64), "not torch.complex64"),
        (["cat"] * 8, "class indices"),
    ],
)
def test_wrong_targets_are_refused(model, images, targets, problem):
    with pytest.raises(UserError, match=problem):
        explain(model, images, targets)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(3, 32, 32), r"not \(3, 32, 32\) float32"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), r"not \(2, 3, 32, 32\) uint8"),
        (torch.zeros(0, 3, 32, 32), "the batch is empty"),
        ([[0.0]], "not list"),
    ],
)
def test_wrong_images_are_refused(model, images, words):
    with pytest.raises(UserError, match=words):
        explain(model, images)
