"""`augcam explain model=... weights=FILE images=...`: a classifier that was not trained here."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from augcam.cli.explain import main
from augcam.errors import UserError
from tests.faults.command import Started

NETWORK = ["model=torchvision", "model.arch=mobilenet_v3_small"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of weights, names of its classes, and two pictures."""
    folder = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small(num_classes=3)
    torch.save(network.state_dict(), folder / "w.pt")
    (folder / "names.txt").write_text("cat\ndog\nbird\n")
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(random.integers(0, 256, (120, 150, 3), np.uint8)).save(folder / name)
    return folder


def test_a_page_of_ones_own_pictures(files, tmp_path, capsys):
    main(
        [*NETWORK, f"weights={files}/w.pt", f"images={files}/*.png", f"names={files}/names.txt",
         "size=96", f"out={tmp_path}/page"]
    )  # fmt: skip
    page = (tmp_path / "page" / "index.html").read_text()
    assert "mobilenet_v3_small, weights of w.pt; gradcam at features." in page
    assert any(name in page for name in ("cat", "dog", "bird"))
    # Each picture's own class, and the others beside it.
    drawn = sorted(path.name for path in (tmp_path / "page" / "pictures").glob("*.png"))
    assert drawn == ["001.png", "001_others.png", "002.png", "002_others.png"]
    assert f"{tmp_path}/page/index.html" in capsys.readouterr().out


def test_maps_are_of_the_layer_and_by_the_method_that_are_asked_for(files, tmp_path, monkeypatch):
    asked = []

    def explained(_network, **settings):
        asked.append(settings)
        raise Started

    monkeypatch.setattr("augcam.explain.rows.GradCAM", explained)
    with pytest.raises(Started):
        main(
            [*NETWORK, f"weights={files}/w.pt", f"images={files}/*.png", "size=96",
             "layer=features.3", "method=hirescam", f"out={tmp_path}/page"]
        )  # fmt: skip
    assert asked == [{"layers": ("features.3",), "method": "hirescam"}]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weights": "nowhere.pt"}, "weights=nowhere.pt: there is no such file"),
        ({"model.arch": "squeezenet1_1"}, "not the weights of this SqueezeNet"),
        ({"method": "cam"}, "method=cam: unknown"),
        ({"layer": "layer9"}, "layer9"),
        ({"names": "nowhere.txt"}, "names=nowhere.txt: cannot be read"),
        ({"images": None}, "images: must be given"),
        ({"model": "resnet50"}, "model=resnet50"),
    ],
)
def test_what_is_wrong_is_refused(files, tmp_path, monkeypatch, refusal, change, problem):
    monkeypatch.chdir(tmp_path)
    asked = {
        "model": "torchvision", "model.arch": "mobilenet_v3_small", "weights": files / "w.pt",
        "images": f"{files}/*.png", "size": 96,
    } | change  # fmt: skip
    given = [f"{key}={value}" for key, value in asked.items() if value is not None]
    assert problem in refusal("explain", *given)


def test_nothing_is_executed_from_the_file_of_weights(files, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil.pt: not a file of weights"):
        main([*NETWORK, f"weights={tmp_path}/evil.pt", f"images={files}/*.png"])
    assert "executed" not in capsys.readouterr().out


def test_a_file_without_a_layers_weight_is_refused(files, tmp_path):
    torch.save({"classifier.bias": torch.zeros(3)}, tmp_path / "bias.pt")
    with pytest.raises(UserError, match=r"bias.pt: no layer's weight among its 1 tensors"):
        main([*NETWORK, f"weights={tmp_path}/bias.pt", f"images={files}/*.png"])
