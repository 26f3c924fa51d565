"""The epoch's panels: the right images, the right captions, and no trace in the run."""

import copy
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

import augcam.training.callbacks.gradcam as panels
from augcam.config.schema import validate
from augcam.explain.cam import GradCAM
from augcam.explain.overlay import overlay
from augcam.training.build import build_classifier
from tests.conftest import compose

CLASSES = [f"class{n}" for n in range(10)]


def classifier(*overrides: str):
    torch.manual_seed(0)
    tree = compose(["model=resnet10", "model.width=8", "model.dropout=0.2", *overrides])
    return build_classifier(validate(tree), CLASSES)


def loader(count: int = 48, size: int = 8) -> DataLoader:
    made = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 16, 16, generator=made)
    labels = torch.randint(0, 10, (count,), generator=made)
    return DataLoader(TensorDataset(images, labels, torch.arange(count)), batch_size=size)


def panel(folder, **changed) -> panels.GradCamPanels:
    settings: dict[str, Any] = {
        "images": 4, "choice": "most_confident", "layer": "layer4", "method": "gradcam",
        "every_n_epochs": 1, "seed": 1,
    }  # fmt: skip
    return panels.GradCamPanels(
        CLASSES, (0.5,) * 3, (0.25,) * 3, **settings | changed, figures=folder / "figures"
    )


def trainer(folder, callbacks, **flags) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=TensorBoardLogger(folder, name="", version=""),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=callbacks, **flags,
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch):
    """What the callback hands to the grid: (rows, captions) of each picture."""
    seen = []
    real = panels.captioned_grid

    def spy(rows, captions, *others):
        seen.append((rows, captions))
        return real(rows, captions, *others)

    monkeypatch.setattr(panels, "captioned_grid", spy)
    return seen


def test_shows_the_most_confidently_wrong_with_their_captions(tmp_path, drawn):
    module, data = classifier(), loader()
    trainer(tmp_path, [panel(tmp_path)]).validate(module, data, verbose=False)

    images = torch.cat([batch[0] for batch in data])
    wrong, expected_captions = mistakes(module, data)
    rows, captions = drawn[0]
    assert captions == expected_captions
    for (shown, *_), i in zip(rows, wrong, strict=True):
        expected = (images[i].permute(1, 2, 0) * 0.25 + 0.5).clamp(0, 1).mul(255).round()
        assert np.abs(shown.astype(int) - expected.numpy().astype(int)).max() <= 1


def mistakes(module, data) -> tuple[torch.Tensor, list[str]]:
    """The four that the network gets wrong most confidently: their places and their captions."""
    images, labels = (torch.cat(part) for part in list(zip(*data, strict=True))[:2])
    with torch.no_grad():
        confidence, predicted = module.eval()(images).softmax(1).max(1)
    wrong = torch.where(predicted != labels, confidence, -1).argsort(descending=True)[:4]
    return wrong, [
        f"{CLASSES[labels[i]]} → {CLASSES[predicted[i]]}\n{confidence[i]:.0%}" for i in wrong
    ]


def test_where_the_average_of_the_weights_is_validated_the_average_is_explained(tmp_path, drawn):
    module, data = classifier(), loader()
    average = EMAWeightAveraging(decay=0.9)
    trainer(tmp_path, [panel(tmp_path), average], max_epochs=1).fit(module, data, data)
    _, captions = drawn[0]
    # When training ends, the callback leaves the average in the network.
    assert captions == mistakes(module, data)[1]


def test_tracked_images_stay_the_same_at_every_epoch(tmp_path, drawn):
    module = classifier()
    trainer(tmp_path, [panel(tmp_path)], max_epochs=3, num_sanity_val_steps=2).fit(
        module, loader(), loader()
    )
    tracked = [rows for rows, _ in drawn[1::2]]
    assert len(tracked) == 3
    for later in tracked[1:]:
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(tracked[0], later, strict=True))
    read = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert [event.step for event in read.Images("gradcam/tracked")] == [1, 2, 3]


def test_tracked_images_survive_a_resume(tmp_path, drawn):
    first = panel(tmp_path)
    trainer(tmp_path, [first], max_epochs=1).fit(classifier(), loader(), loader())
    again = panel(tmp_path)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    trainer(tmp_path, [again], max_epochs=1).fit(classifier(), loader(), loader(24))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(drawn[1][0], drawn[3][0], strict=True))


def mixed_loader(share: float, count: int = 16) -> DataLoader:
    """Batches of 8 whose images are mixtures: `share` of class 3 and the rest of class 7."""
    images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(count, 10)
    labels[:, 3], labels[:, 7] = share, 1 - share
    return DataLoader(TensorDataset(images, labels, torch.arange(count)), batch_size=8)


ASKED = {"layer": "layer3", "method": "hirescam"}  # neither is what a panel shows unless asked


def assert_shows_maps(rows, column, module, images, targets):
    """A column of the picture is the images under the maps that were asked for, for the targets."""
    shown = (images.permute(0, 2, 3, 1) * 0.25 + 0.5).clamp(0, 1).mul(255).round().numpy()
    with GradCAM(module.network, layers=(ASKED["layer"],), method=ASKED["method"]) as cam:
        found = cam(images, targets)[ASKED["layer"]]
    expected = overlay(shown.astype(np.uint8), found.heatmap.numpy(), found.status)
    pictures = np.stack([row[column] for row in rows]).astype(int)
    assert np.abs(pictures - expected.astype(int)).max() <= 2


def test_mistakes_are_shown_with_the_evidence_for_both_answers(tmp_path, drawn):
    module, data = classifier(), loader()
    trainer(tmp_path, [panel(tmp_path, **ASKED)]).validate(module, data, verbose=False)
    images, labels = (torch.cat(part) for part in list(zip(*data, strict=True))[:2])
    wrong, _ = mistakes(module, data)
    predicted = module.eval()(images[wrong]).argmax(1)
    for column, targets in ((1, predicted), (2, labels[wrong])):
        assert_shows_maps(drawn[0][0], column, module, images[wrong], targets)


def test_mixtures_are_shown_with_the_evidence_for_both_of_their_classes(tmp_path, drawn):
    module, data = classifier(), mixed_loader(0.7)
    trainer(tmp_path, [panel(tmp_path, images=3, **ASKED)], max_epochs=1).fit(
        module, data, loader()
    )
    rows, captions = drawn[-1]
    images = next(iter(data))[0][:3]
    module.eval()
    sure = module(images).softmax(1)
    assert captions == [f"70% class3: {s[3]:.0%}\n30% class7: {s[7]:.0%}" for s in sure]
    shown = (images.permute(0, 2, 3, 1) * 0.25 + 0.5).clamp(0, 1).mul(255).round().numpy()
    assert np.abs(np.stack([row[0] for row in rows]).astype(int) - shown).max() <= 1
    for column, target in ((1, 3), (2, 7)):
        assert_shows_maps(rows, column, module, images, torch.full((3,), target))
    read = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert [event.step for event in read.Images("gradcam/mixed")] == [1]
    assert (tmp_path / "figures" / "gradcam_mixed.png").is_file()


@pytest.mark.parametrize(
    "data",
    [mixed_loader(0.9), mixed_loader(1.0), loader()],
    ids=["hardly", "with its own class", "not at all"],
)
def test_what_cannot_be_seen_to_be_mixed_is_not_shown(tmp_path, data):
    trainer(tmp_path, [panel(tmp_path)], max_epochs=1).fit(classifier(), data, loader())
    read = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert "gradcam/mixed" not in read.Tags()["images"]


@pytest.mark.parametrize("flags", [{}, {"precision": "bf16-mixed"}], ids=["float32", "bf16"])
def test_training_is_the_same_with_and_without(tmp_path, flags):
    ends = []
    for name, images in (("with", 4), ("without", 0)):
        module = classifier()
        torch.manual_seed(3)
        trainer(tmp_path / name, [panel(tmp_path, images=images)], max_epochs=2, **flags).fit(
            module, loader(), loader()
        )
        ends.append((module, torch.get_rng_state()))
    (one, random_one), (other, random_other) = ends
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(random_one, random_other)


@pytest.mark.parametrize("settings", [["model.channels_last=true"], ["model.channels_last=false"]])
def test_leaves_no_trace(tmp_path, settings):
    module = classifier(*settings)
    watch = Watch()
    # Callbacks run in order: one watch before the panels are drawn, one after.
    after = Watch()
    trainer(tmp_path, [watch, panel(tmp_path), after]).validate(module, loader(), verbose=False)
    assert watch.seen.keys() == after.seen.keys()
    for name, value in watch.seen.items():
        same = torch.equal(value, after.seen[name]) if torch.is_tensor(value) else None
        assert same if same is not None else value == after.seen[name], name


class Watch(pl.Callback):
    """All of a network that an explanation could disturb, at the end of validation."""

    def on_validation_epoch_end(self, trainer, module):
        network = module.network
        if not any(p.grad is not None for p in network.parameters()):
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter)
            network.layer2.train()  # an odd mode among the others
        self.seen = {f"weight {n}": v.clone() for n, v in network.state_dict().items()}
        self.seen |= {f"grad {n}": p.grad.clone() for n, p in network.named_parameters()}
        self.seen |= {f"needs grad {n}": p.requires_grad for n, p in network.named_parameters()}
        self.seen |= {f"mode {n}": part.training for n, part in network.named_modules()}
        self.seen |= {f"hooks {n}": len(m._forward_hooks) for n, m in network.named_modules()}
        self.seen["random"] = torch.get_rng_state()
        self.seen["grad enabled"] = torch.is_grad_enabled()


def test_works_when_the_network_is_compiled(tmp_path, drawn):
    module = classifier()
    module.network.compile(backend="eager")
    trainer(tmp_path, [panel(tmp_path)]).validate(module, loader(), verbose=False)
    plain = classifier()
    trainer(tmp_path / "plain", [panel(tmp_path)]).validate(plain, loader(), verbose=False)
    for mine, theirs in zip(drawn[0][0], drawn[2][0], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_nothing_is_drawn_when_nothing_is_wrong(tmp_path, drawn):
    module = classifier()
    data = loader()
    images = torch.cat([batch[0] for batch in data])
    with torch.no_grad():
        right = module.eval()(images).argmax(1)
    rows = TensorDataset(images, right, torch.arange(len(right)))
    trainer(tmp_path, [panel(tmp_path)]).validate(
        module, DataLoader(rows, batch_size=8), verbose=False
    )
    assert drawn == []


def test_random_choice_follows_the_seed(tmp_path, drawn):
    for seed in (1, 1, 2):
        trainer(tmp_path, [panel(tmp_path, choice="random", seed=seed)]).validate(
            classifier(), loader(), verbose=False
        )
    first, same, other = (captions for _, captions in drawn[::2])
    assert first == same
    assert first != other
