"""Loss, metrics and schedule: expected values from scikit-learn, torch alone, or arithmetic."""

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.models.resnet import resnet
from augcam.training.build import build_classifier
from augcam.training.module import Classifier, decay_groups, jensen_shannon
from tests.conftest import compose

CLASSES = ("ant", "bee", "cat", "dog", "emu", "fox")


class Scores(nn.Module):
    """A network whose logits are its input's first pixels: the test chooses what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, : len(CLASSES)] + 0 * self.bias


def batches(logits: np.ndarray, labels: np.ndarray, size: int) -> DataLoader:
    images = torch.zeros(len(labels), 3, 1, 8)
    images[:, 0, 0, : len(CLASSES)] = torch.from_numpy(logits)
    rows = TensorDataset(images, torch.from_numpy(labels), torch.arange(len(labels)))
    return DataLoader(rows, batch_size=size)


def without_optimizer(network: nn.Module, **loss: Any) -> Classifier:
    nothing: Any = None  # it is never fitted
    return Classifier(network, CLASSES, nothing, nothing, **loss)


def quiet_trainer(**flags) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **flags,
    )  # fmt: skip


def test_metrics_equal_scikit_learns():
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 101)
    logits = random.normal(size=(101, 6)).astype(np.float32)
    logits[np.arange(101), labels] += 1.0
    classifier = without_optimizer(Scores())
    quiet_trainer().test(classifier, batches(logits, labels, 16), verbose=False)

    found = classifier.results["test"]
    predicted = logits.argmax(axis=1)
    expected = confusion_matrix(labels, predicted)
    assert found["confusion"] == expected.tolist()
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    assert found["loss"] == pytest.approx(log_loss(labels, probabilities), rel=1e-5)
    for row, name in enumerate(CLASSES):
        wanted = accuracy_score(labels[labels == row], predicted[labels == row])
        assert found["accuracy_per_class"][name] == pytest.approx(wanted)


def test_calibration_error_by_hand():
    # Four samples that say class 0 with probability 0.75 of two likely classes; three are right:
    # confidence 0.75, accuracy 0.75, so the error is 0. Were two right, it would be 0.25.
    sure = np.log(np.array([0.75, 0.25, 1e-9, 1e-9, 1e-9, 1e-9], dtype=np.float32))
    for right, error in ((3, 0.0), (2, 0.25)):
        labels = np.array([0] * right + [1] * (4 - right))
        classifier = without_optimizer(Scores())
        quiet_trainer().test(classifier, batches(np.tile(sure, (4, 1)), labels, 2), verbose=False)
        assert classifier.results["test"]["ece"] == pytest.approx(error, abs=1e-6)


def test_a_class_without_images_has_no_accuracy():
    labels = np.zeros(4, dtype=np.int64)
    classifier = without_optimizer(Scores())
    quiet_trainer().test(
        classifier, batches(np.eye(6, dtype=np.float32)[labels], labels, 2), verbose=False
    )
    found = classifier.results["test"]["accuracy_per_class"]
    assert found["ant"] == 1.0
    assert np.isnan(found["bee"])


def test_a_loss_that_is_not_a_number_is_not_left_out():
    labels = np.zeros(4, dtype=np.int64)
    logits = np.eye(6, dtype=np.float32)[labels]
    logits[2] = np.nan
    classifier = without_optimizer(Scores())
    quiet_trainer().test(classifier, batches(logits, labels, 2), verbose=False)
    assert np.isnan(classifier.results["test"]["loss"])


@pytest.mark.parametrize(
    ("overrides", "fused"),
    [
        ([], True),
        (["optim=adamw"], True),
        (["trainer.precision=16-mixed"], False),
        (["+optim.fused=false"], False),
        (["+optim.foreach=true"], None),
    ],
)
def test_the_optimizer_is_fused_where_it_can_be(overrides, fused):
    config = validate(compose(["model=resnet10", "model.width=8", *overrides]))
    classifier = build_classifier(config, map(str, range(10)))
    optimizer = classifier.make_optimizer(decay_groups(classifier.network, 0.0))
    assert optimizer.defaults["fused"] is fused


def test_weight_decay_spares_norms_and_biases():
    network = resnet(10, width=8, blocks=(1, 1, 1, 1))
    decayed, spared = decay_groups(network, 5e-4)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0.0)
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim == 1 for p in spared["params"])
    both = {id(p) for p in decayed["params"]} | {id(p) for p in spared["params"]}
    assert both == {id(p) for p in network.parameters()}


@pytest.mark.parametrize("head_lr", ["null", "0.4"])
@pytest.mark.parametrize(("everywhere", "of_the_others"), [("false", 0), ("true", 0.003)])
def test_the_optimizer_of_a_run_decays_what_the_config_says(everywhere, of_the_others, head_lr):
    config = validate(
        compose(["model=resnet10", "model.width=8", "optim.weight_decay=0.003",
                 f"optim.decay_norm_and_bias={everywhere}", f"optim.head_lr={head_lr}"])
    )  # fmt: skip
    classifier: Any = build_classifier(config, map(str, range(10)))
    classifier.trainer = SimpleNamespace(estimated_stepping_batches=10)
    optimizer = classifier.configure_optimizers()["optimizer"]
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    for name, parameter in classifier.network.named_parameters():
        assert decay[id(parameter)] == (0.003 if parameter.ndim > 1 else of_the_others), name


def test_fixed_filters_are_in_no_group():
    network = resnet(10, width=8, blocks=(1, 1, 1, 1), whiten=True)
    fixed = network.conv1[0].weight
    groups = decay_groups(network, 5e-4)
    assert all(p is not fixed for group in groups for p in group["params"])


def test_objective_is_smoothed_cross_entropy_plus_l1():
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 6))
    classifier = without_optimizer(network, label_smoothing=0.1, l1=0.01)
    images, labels = torch.randn(4, 3, 1, 8), torch.tensor([0, 1, 2, 3])
    found = classifier.training_step((images, labels, labels), 0)
    log_p = network(images).log_softmax(1)
    # Szegedy et al.: the target is 0.9 for the true class plus 0.1 spread evenly over all six.
    target = torch.full((4, 6), 0.1 / 6)
    target[torch.arange(4), labels] += 0.9
    expected = (
        -(target * log_p).sum(1).mean() + 0.01 * network.get_parameter("1.weight").abs().sum()
    )
    torch.testing.assert_close(found, expected)
    assert classifier.train_metrics()["loss"] == pytest.approx(
        -log_p[torch.arange(4), labels].mean().item(), rel=1e-5
    )


def test_divergence_of_views_is_entropy_of_the_mean_less_mean_entropy():
    views = [torch.randn(5, 6) * 3 for _ in range(3)]
    p = np.stack([view.double().softmax(1).numpy() for view in views])
    expected = (entropy(p.mean(axis=0), axis=1) - entropy(p, axis=2).mean(axis=0)).mean()
    assert jensen_shannon(views).item() == pytest.approx(expected, rel=1e-4)
    assert jensen_shannon([views[0]] * 3).item() == pytest.approx(0, abs=1e-6)
    certain = list(1000 * torch.eye(6)[:3, None])  # three views, three different certain answers
    assert jensen_shannon(certain).item() == pytest.approx(np.log(3))


def test_objective_with_three_views_is_the_first_ones_plus_their_divergence():
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 6))
    classifier = without_optimizer(network, jsd=12)
    plain = without_optimizer(network)
    images, labels = torch.randn(12, 3, 1, 8), torch.tensor([0, 1, 2, 3])
    found = classifier.training_step((images, labels, labels), 0)
    first = plain.training_step((images[:4], labels, labels), 0)
    apart = jensen_shannon([network(images[part : part + 4]) for part in (0, 4, 8)])
    torch.testing.assert_close(found, first + 12 * apart)
    assert classifier.train_metrics() == pytest.approx(plain.train_metrics())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["aug=crop_flip"], ["loss.jsd=12", "aug=crop_flip has none", "aug=augmix"]),
        (["aug=augmix", "aug.augmix=null"], ["has none"]),
        (["aug=augmix", "mix=mixup"], ["loss.jsd=12 and mix=mixup"]),
        (["aug=augmix", "loss.jsd=-1"], ["loss.jsd=-1"]),
    ],
)
def test_views_that_there_are_not_are_refused_in_one_line(overrides, words):
    with pytest.raises(UserError) as refused:
        validate(compose(["data=shapes", "loss.jsd=12", *overrides]))
    (line,) = str(refused.value).splitlines()
    for word in words:
        assert word in line


class Rates(pl.Callback):
    """The rate that each optimizer step was made with."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def rates(tmp_path, overrides=(), batches_of=24, stop_at=None, **flags) -> list[float]:
    """The learning rates of a real fit over `batches_of` batches an epoch, three epochs."""
    config = validate(
        compose(["model=resnet10", "model.width=8", "scheduler.pct_start=0.25", *overrides])
    )
    torch.manual_seed(0)
    count = 2 * batches_of
    index = torch.arange(count)
    loader = DataLoader(TensorDataset(torch.randn(count, 3, 8, 8), index % 10, index), batch_size=2)
    seen = Rates()
    for end in [stop_at, None] if stop_at else [None]:
        classifier = build_classifier(config, map(str, range(10)))
        callbacks: list[pl.Callback] = [seen]
        if end:
            callbacks.append(StopAfter(end, tmp_path / "last.ckpt"))
        trainer = quiet_trainer(max_epochs=3, callbacks=callbacks, **flags)
        resume = tmp_path / "last.ckpt" if stop_at and not end else None
        with contextlib.suppress(EnoughError):
            trainer.fit(classifier, loader, ckpt_path=resume, weights_only=True if resume else None)
    return seen.rates


class EnoughError(Exception):
    pass


class StopAfter(pl.Callback):
    def __init__(self, epochs: int, path) -> None:
        self.epochs, self.path = epochs, path

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epochs:
            raise EnoughError

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({}, 72),
        ({"accumulate_grad_batches": 3}, 24),
        ({"limit_train_batches": 8}, 24),
        ({"max_steps": 40}, 40),
    ],
    ids=["plain", "accumulated", "limited", "max_steps"],
)
def test_one_cycle_spans_exactly_the_run(tmp_path, flags, steps):
    found = rates(tmp_path, **flags)
    assert len(found) == steps
    # Peak after a quarter of the steps, start at a 25th of it, end at a 400th of the start.
    assert int(np.argmax(found)) == round(0.25 * steps) - 1
    assert max(found) == pytest.approx(0.1)
    assert found[0] == pytest.approx(0.1 / 25)
    assert found[-1] == pytest.approx(0.1 / 25 / 400)


def test_one_cycle_goes_on_after_a_resume(tmp_path):
    assert rates(tmp_path, stop_at=1) == pytest.approx(rates(tmp_path))


def test_cosine_ends_at_its_floor(tmp_path):
    config = validate(compose(["model=resnet10", "model.width=8", "scheduler=cosine"]))
    classifier = build_classifier(config, map(str, range(10)))
    optimizer = classifier.make_optimizer(decay_groups(classifier.network, 0.0))
    schedule = classifier.make_scheduler(optimizer, 10)
    assert schedule["interval"] == "step"
    found = []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert found == pytest.approx([0.05 * (1 + np.cos(np.pi * t / 10)) for t in range(10)])


def test_multistep_drops_at_shares_of_the_run():
    config = validate(compose(["model=resnet10", "model.width=8", "scheduler=multistep"]))
    classifier = build_classifier(config, map(str, range(10)))
    optimizer = classifier.make_optimizer(decay_groups(classifier.network, 0.0))
    schedule = classifier.make_scheduler(optimizer, 20)  # drops after steps 6, 12 and 16
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert found == pytest.approx([0.1] * 6 + [0.02] * 6 + [0.004] * 4 + [0.0008] * 4)


def test_step_schedule_counts_epochs():
    config = validate(compose(["model=resnet10", "model.width=8", "scheduler=step"]))
    classifier = build_classifier(config, map(str, range(10)))
    optimizer = classifier.make_optimizer(decay_groups(classifier.network, 0.0))
    schedule = classifier.make_scheduler(optimizer, 1000)
    assert schedule["interval"] == "epoch"
    found = []
    for _ in range(9):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert found == pytest.approx([0.1] * 4 + [0.08] * 4 + [0.064])


def test_a_mixture_is_learnt_in_proportion_and_counted_by_its_larger_part():
    config = validate(compose(["model=resnet10", "model.width=8", "loss.label_smoothing=0.1"]))
    classifier = build_classifier(config, "abc")
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]])
    classifier.network = torch.nn.Module()
    classifier.network.forward = lambda images: logits
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.6, 0.4]])
    loss = classifier.training_step((torch.zeros(2, 3, 8, 8), shares, torch.arange(2)), 0)
    smoothed = 0.9 * shares + 0.1 / 3
    assert loss == pytest.approx(float(-(smoothed * logits.log_softmax(1)).sum(1).mean()))
    # The first is right by its larger part, the second is taken for its smaller one.
    assert classifier.train_metrics()["accuracy"] == 0.5
    plain = float(-(shares * logits.log_softmax(1)).sum(1).mean())
    assert classifier.train_metrics()["loss"] == pytest.approx(plain)
