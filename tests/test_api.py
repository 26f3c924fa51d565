"""AugCAM from Python, with networks of torchvision, timm and one's own: train, load, ask."""

import json
import sys

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import nn

import augcam
from augcam import GradCAM, load_run, train
from augcam.cli.explain import main as explain
from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.evaluation import measure_run
from augcam.report.load import read_study
from augcam.runs.finished_run import open_run
from augcam.training.module import Classifier
from tests.conftest import compose

SMALL = [
    "data=shapes", "data.train_size=120", "data.test_size=40", "data.holdout=20", "data.batch_size=20",
    "data.eval_batch_size=40", "trainer.max_epochs=1", "trainer.accelerator=cpu", "explain.images=2",
    "trainer.precision=32-true", "preview.samples=0",
    "trainer.enable_progress_bar=false", "data.num_workers=0",
]  # fmt: skip
OURS = ["model=resnet10", "model.width=8"]

PACKAGE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.trunk(images).mean(dim=(2, 3)))
"""


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return train([*SMALL, *OURS], tmp_path_factory.mktemp("ours") / "run")


def test_train_leaves_what_the_command_line_leaves(ours):
    assert ours.metrics["status"] == "finished"
    assert ours.metrics == json.loads(ours.folder.metrics_file.read_text())
    for path in (ours.folder.config_file, ours.folder.overrides_file, ours.folder.last):
        assert path.is_file()


def test_training_a_finished_run_again_changes_nothing_and_another_config_is_refused(ours):
    before = ours.folder.metrics_file.stat().st_mtime_ns
    assert train([*SMALL, *OURS], ours.folder.path).metrics == ours.metrics
    assert ours.folder.metrics_file.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="seed=2: this run has 1"):
        train([*SMALL, *OURS, "seed=2"], ours.folder.path)


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="limt"):
        train([*SMALL, *OURS, "aug=rotate", "+aug.rotate.limt=3"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_serves_as_overrides_do_and_a_new_run_has_a_folder_of_its_own(
    tmp_path, monkeypatch, ours
):
    monkeypatch.chdir(tmp_path)
    result = train(validate(compose([*SMALL, *OURS])))
    assert result.folder.path.parent.name == "outputs"
    assert result.folder.overrides() is None  # what command would make it is not known
    assert result.metrics["test"] == ours.metrics["test"]


def test_a_run_predicts_what_it_predicted_when_it_was_tested(ours):
    run = load_run(ours.folder.path)
    data = run.datamodule()
    data.prepare_data()
    data.setup("test")
    probabilities = run.predict(data.test_set.images[:])
    assert probabilities.shape == (40, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    with np.load(ours.folder.predictions_file) as kept:
        assert probabilities.argmax(axis=1).tolist() == kept["predicted"].tolist()
        np.testing.assert_allclose(probabilities.max(axis=1), kept["confidence"], atol=1e-3)
    correct = probabilities.argmax(axis=1) == data.test_set.labels
    assert run.metrics["test"]["accuracy"] == pytest.approx(correct.mean())
    assert run.classes == data.classes


def test_a_run_explains_images_as_gradcam_does(ours):
    run = load_run(ours.folder.path)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    maps = run.explain(images, targets=[0, 1, 2])
    assert list(maps) == ["layer4"]
    with GradCAM(run.network, "layer4") as cam:
        theirs = cam(run.normalize(images), [0, 1, 2])
    assert torch.equal(maps["layer4"].raw, theirs["layer4"].raw)
    assert maps["layer4"].heatmap.shape == (3, 32, 32)
    assert list(run.explain(images, layers=["layer1", "layer3"])) == ["layer1", "layer3"]


def test_predicting_needs_no_data_set(ours, monkeypatch):
    monkeypatch.setattr("augcam.api.run_source", None)
    assert load_run(ours.folder.path).predict(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 10)
    assert load_run(ours.folder.path).predict(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 10)


def test_opencvs_order_of_channels_may_be_turned_round_in_place(ours):
    """`bgr[..., ::-1]` is a view with negative strides, of which torch makes no tensor."""
    bgr = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    run = load_run(ours.folder.path)
    assert np.array_equal(run.predict(bgr[..., ::-1]), run.predict(bgr[..., ::-1].copy()))


@pytest.mark.parametrize(
    "images", [np.zeros((2, 32, 32, 3), np.float32), np.zeros((32, 32, 3), np.uint8)]
)
def test_other_than_uint8_images_are_refused(ours, images):
    with pytest.raises(UserError, match=r"Images must be uint8 \(B, H, W, 3\)"):
        load_run(ours.folder.path).predict(images)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        load_run(tmp_path)


def test_the_public_names_are_imported_when_used():
    assert {"GradCAM", "load_run", "train"} <= set(dir(augcam))


def test_lightnings_load_from_checkpoint_needs_the_checkpoint_alone(ours):
    classifier = Classifier.load_from_checkpoint(ours.folder.last)
    run = load_run(ours.folder)
    images = torch.randn(2, 3, 32, 32)
    assert classifier.classes == run.classes
    assert classifier.results["val"] == ours.metrics["val"]
    torch.testing.assert_close(classifier.eval()(images), run.network(images))
    saved = torch.load(ours.folder.last, weights_only=True)
    assert saved["hyper_parameters"] == {"classes": list(run.classes)}


def test_a_checkpoint_of_an_earlier_version_needs_the_names_of_its_classes(ours, tmp_path):
    saved = torch.load(ours.folder.last, weights_only=True)
    del saved["hyper_parameters"]
    torch.save(saved, tmp_path / "old.ckpt")
    with pytest.raises(UserError, match=r"give classes=\["):
        Classifier.load_from_checkpoint(tmp_path / "old.ckpt")
    assert (
        Classifier.load_from_checkpoint(tmp_path / "old.ckpt", classes="abcdefghij").classes[0]
        == "a"
    )


# --- other networks ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["torchvision", "timm", "custom"])
def other(request, tmp_path_factory):
    """A run of a network that is not ours."""
    folder = tmp_path_factory.mktemp(request.param)
    model = {
        "torchvision": ["model=torchvision", "model.arch=mobilenet_v3_small", "model.freeze=2",
                        "optim.head_lr=0.5"],
        "timm": ["model=timm", "model.arch=vit_tiny_patch16_224"],
        "custom": ["model=custom", "model._target_=ownnetwork.Net", "+model.width=16",
                   "trust=[ownnetwork]"],
    }[request.param]  # fmt: skip
    if request.param == "timm":
        pytest.importorskip("timm")
    (folder / "ownnetwork.py").write_text(PACKAGE)
    sys.path.append(str(folder))
    yield train([*SMALL, *model], folder / "run")
    sys.path.remove(str(folder))
    sys.modules.pop("ownnetwork", None)


LABELS = {
    "mobilenet_v3_small": "features",
    "vit_tiny_patch16_224": "blocks.11.norm1",
    "Net": "trunk",
}


def test_other_networks_train_and_are_explained_and_evaluated_and_reported(other):
    name = other.metrics["model"]
    layer = LABELS[name]
    run = load_run(other.folder)
    assert isinstance(run.network, nn.Module)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert list(run.explain(images)) == [layer]
    record = measure_run(other.folder, 20, 10, 0, "last", Progress(disable=True))
    assert record["layer"] == layer
    explain([f"run={other.folder.path}", "n=2"])
    assert json.loads((other.folder.path / "explain" / "galleries.json").read_text())["layers"] == [
        layer
    ]
    study = read_study([other.folder.path])
    assert [one.evaluation is not None for one in study.runs] == [True], study.notes
    assert open_run(other.folder, "last", Progress(disable=True)).confidence.shape == (40,)


@pytest.mark.parametrize("other", ["custom"], indirect=True)
def test_a_run_folder_lets_no_package_in(other, monkeypatch):
    monkeypatch.setattr("augcam.config.build._trusted", set())
    with pytest.raises(UserError, match=r"ownnetwork.Net: .*trust=\[mypackage\]"):
        load_run(other.folder)
    network = load_run(other.folder, trusted=["ownnetwork"]).network
    assert network.get_submodule("trunk.0").out_channels == 16
