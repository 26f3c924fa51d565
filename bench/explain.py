"""How fast our maps are beside pytorch-grad-cam, torchcam and captum, on this machine.

    python bench/explain.py

32 images of 32x32 through a ResNet18 with the CIFAR stem, one layer and four. Everybody explains
the same classes and ends with the maps it offers: ours and pytorch-grad-cam's at the image's size,
torchcam's normalized and captum's rectified at the layer's. In each round all four run in a new
order; what counts is the ratio of ours to theirs within a round: the median and the quartiles. Peak
memory is what torch's allocator held at once during one call, beyond what was there before it.
"""

import statistics
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import torch
from _timing import alternated, machine, markdown, ratio, show, timed
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM as PytorchGradCam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam.methods import GradCAM as TorchCam

from augcam.explain.cam import GradCAM
from augcam.models.resnet import resnet

IMAGES, ROUNDS = 32, 15
LAYERS = {"layer4": ("layer4",), "layer1..4": ("layer1", "layer2", "layer3", "layer4")}
OURS = "augcam"


def contenders(
    model: nn.Module, images: torch.Tensor, layers: tuple[str, ...]
) -> dict[str, Callable[[], object]]:
    """One call each from images to maps; set up in advance is only what a user would keep."""
    classes = model(images).argmax(dim=1)
    modules = [model.get_submodule(layer) for layer in layers]
    targets = [ClassifierOutputTarget(int(label)) for label in classes]
    ours = GradCAM(model, layers).__enter__()
    theirs = PytorchGradCam(model, modules)
    captums = [LayerGradCam(model, module) for module in modules]

    def torchcam() -> object:
        with TorchCam(model, list(layers)) as cam:
            return cam(classes.tolist(), model(images))

    return {
        OURS: lambda: ours(images, classes),
        "pytorch-grad-cam": lambda: theirs(images, targets),
        "torchcam": torchcam,
        "captum": lambda: [
            cam.attribute(images, classes, relu_attributions=True) for cam in captums
        ],
    }


def peak_mebibytes(call: Callable[[], object]) -> float:
    """The most that torch's CPU allocator held at once during a call, above where it began."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    held = peak = 0
    events = profile.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def main() -> None:
    torch.manual_seed(0)
    model = resnet(10).eval()
    images = torch.randn(IMAGES, 3, 32, 32)
    print(f"{machine()}; {IMAGES} images of 32x32, float32, {ROUNDS} rounds")
    print(", ".join(f"{name} {version(name)}" for name in ("grad-cam", "torchcam", "captum")))
    for title, layers in LAYERS.items():
        calls = contenders(model, images, layers)
        seconds = alternated({name: partial(timed, call) for name, call in calls.items()}, ROUNDS)
        table = markdown(title, "library", "s", "augcam / library", "peak MiB")
        for name, call in calls.items():
            table.add_row(
                name,
                f"{statistics.median(seconds[name]):.3f}",
                "" if name == OURS else ratio(seconds[OURS], seconds[name]),
                f"{peak_mebibytes(call):.0f}",
            )
        show(table)


if __name__ == "__main__":
    main()
