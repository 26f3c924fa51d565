"""The LightningModule: loss, metrics, and an optimizer whose schedule spans exactly the run."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from augcam.config.recorded import from_record
from augcam.errors import UserError
from augcam.metrics import UNCHECKED, metrics_for
from augcam.runs.finished_run import read_checkpoint
from augcam.training.callbacks.finite_loss import NonFiniteError, learning_rate

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups in which normalisation layers and biases are left out of the decay.

    Parameters that are fixed are in neither. He et al., "Bag of Tricks", arXiv 1812.01187, section 3.1.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            spare = isinstance(part, NORMS) or name == "bias"
            (spared if spare else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


def jensen_shannon(views: Sequence[Tensor]) -> Tensor:
    """How far the answers to several views of the same images are apart: their mean over the images.

    The Jensen-Shannon divergence, in nats: the mean divergence of each view's probabilities from
    the mean of all. Hendrycks et al., "AugMix", arXiv 1912.02781, section 3.

    Args:
        views: logits (B, C), float32, of each view.

    Returns:
        A scalar, 0 (all alike) to log(number of views).
    """
    log_p = torch.stack([view.log_softmax(dim=1) for view in views])
    log_mean = log_p.logsumexp(dim=0) - math.log(len(views))
    return (log_p.exp() * (log_p - log_mean)).sum(dim=2).mean()


def _mean() -> MeanMetric:
    """A mean over samples that a NaN makes NaN: TorchMetrics' default waits for NaN, to leave it out.

    TorchMetrics 1.9 then forgets the weights of `update(value, weight)`: give it every sample's value.
    """
    return MeanMetric(nan_strategy="disable")


class HeldOut(nn.Module):
    """Loss, the metrics of `augcam.metrics` and the confusion matrix of a whole data set.

    The values are those of the whole set under any number of processes: every state is summed or
    gathered over the ranks.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = _mean()
        scores = {m.name: m.make(num_classes) for m in metrics_for(num_classes) if m.make}
        scores["confusion"] = MulticlassConfusionMatrix(num_classes, **UNCHECKED)
        self.scores = MetricCollection(scores, compute_groups=False)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: float32 (B, C), int64 (B,)."""
        self.loss.update(F.cross_entropy(logits, labels, reduction="none"))
        self.scores.update(logits.softmax(dim=1), labels)

    def compute_and_reset(self) -> dict[str, Tensor]:
        """The values of all batches, scalars but for `confusion` (C, C), rows = true class."""
        values: dict[str, Tensor] = self.scores.compute() | {"loss": self.loss.compute()}
        self.scores.reset()
        self.loss.reset()
        return values


class Classifier(pl.LightningModule):
    """A network, what it minimises, and what is measured.

    Batches are `(images, labels, index)`: float32 (B, 3, H, W), int64 (B,), int64 (B,). At the end
    of validation and test the callback metrics hold `val/NAME` and `test/NAME` of every metric of
    `augcam.metrics` and `{val,test}/accuracy_class/NAME`, at the end of a training epoch
    `train/loss` and `train/accuracy`. `results["val"]` and `results["test"]` keep the first as plain
    numbers with the confusion matrix (rows = true class), and survive a resume. `train_metrics()`
    has the running epoch's loss and accuracy.

    Args:
        network: images to logits (B, C).
        classes: the C class names.
        make_optimizer: parameter groups to optimizer.
        make_scheduler: optimizer and number of optimizer steps of the run to Lightning's
            scheduler dictionary.
        weight_decay: of the parameters that decay.
        decay_norm_and_bias: let it act on normalisation layers and biases as well.
        label_smoothing: in [0, 1).
        l1: weight of the sum of the absolute values of the weights that decay.
        jsd: weight of the divergence between the answers to three views of each image; above 0, a
            training batch holds 3 B images, the views without AugMix first.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        make_optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        make_scheduler: Callable[[Optimizer, int], LRSchedulerConfigType],
        weight_decay: float = 0.0,
        decay_norm_and_bias: bool = False,
        label_smoothing: float = 0.0,
        l1: float = 0.0,
        jsd: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.classes = tuple(classes)
        self.save_hyperparameters({"classes": list(self.classes)}, logger=False)
        self.make_optimizer = make_optimizer
        self.make_scheduler = make_scheduler
        self.weight_decay = weight_decay
        self.decay_norm_and_bias = decay_norm_and_bias
        self.label_smoothing = label_smoothing
        self.l1 = l1
        self.jsd = jsd
        self.results: dict[str, dict[str, Any]] = {}
        self.random_state: Tensor | None = None
        self.cuda_random_state: Tensor | None = None
        self.train_loss = _mean()
        self.train_accuracy = MulticlassAccuracy(len(self.classes), average="micro", **UNCHECKED)
        for score in (self.train_loss, self.train_accuracy):
            score.persistent(True)  # half an epoch's sums travel with a checkpoint
        self.val_metrics = HeldOut(len(self.classes))
        self.test_metrics = HeldOut(len(self.classes))

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = "cpu",
        classes: Sequence[str] | None = None,
    ) -> "Classifier":
        """The classifier of a run, built from the config in its checkpoint: nothing else is needed.

        Only tensors and plain values are read (`weights_only=True`), and what they may build is checked
        as that of a run folder is: see `augcam.config.build.trust` for a network of one's own.

        Args:
            map_location: the device.
            classes: the class names, for checkpoints of versions that did not keep them.

        Raises:
            UserError: no checkpoint of a run, or it is damaged.
        """
        from augcam.training.build import build_classifier  # which imports this module

        saved = read_checkpoint(Path(checkpoint_path))
        names = classes or saved.get("hyper_parameters", {}).get("classes")
        if not names or "config" not in saved:
            raise UserError(f"{checkpoint_path}: no checkpoint of a run, or give classes=[...]")
        classifier = build_classifier(from_record(saved["config"]), names)
        classifier.load_state_dict(saved["state_dict"])
        classifier.on_load_checkpoint(saved)
        return classifier.to(map_location)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The objective of one batch: smoothed cross-entropy, plus L1, plus AugMix's divergence.

        Loss and accuracy are those of the first view, which is without AugMix.

        Labels are int64 (B,), or float32 (B, C) where images are mixtures. The accuracy of a mixture is
        that of its larger part.
        """
        images, labels, _index = batch
        logits = self(images).float()
        views = logits.chunk(3) if self.jsd else (logits,)
        logits = views[0]
        objective = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if self.jsd:
            objective = objective + self.jsd * jensen_shannon(views)
        with torch.no_grad():
            # The chart shows plain cross-entropy, so that it compares with validation's.
            self.train_loss.update(F.cross_entropy(logits, labels, reduction="none"))
            whole = labels.argmax(dim=1) if labels.ndim == 2 else labels
            self.train_accuracy.update(logits, whole)
        if self.l1:
            weights, _biases = decay_groups(self.network, 0.0)
            objective = objective + self.l1 * sum(w.abs().sum() for w in weights["params"])
        return objective

    def train_metrics(self) -> dict[str, float]:
        """Loss and accuracy over the epoch so far, as the network was at each step."""
        return {
            "loss": float(self.train_loss.compute()),
            "accuracy": float(self.train_accuracy.compute()),
        }

    def on_train_epoch_end(self) -> None:
        # The recorder has read train_metrics() by now; checkpoints, and what monitors, come next.
        for name, value in self.train_metrics().items():
            self.log(f"train/{name}", value, logger=False, sync_dist=True)
        self.train_loss.reset()
        self.train_accuracy.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep torch's random state too: after a resume dropout goes on as if nothing happened.

        Raises:
            NonFiniteError: a weight, or what the optimizer keeps of it, is infinite or NaN. What is
                on the disk stays.
        """
        if not _finite(self.network, checkpoint["optimizer_states"]):
            raise NonFiniteError(
                "a weight or its momentum is not finite",
                self.trainer.global_step,
                learning_rate(self.trainer),
            )
        checkpoint["random_state"] = torch.get_rng_state()
        if self.device.type == "cuda":  # dropout draws there
            checkpoint["cuda_random_state"] = torch.cuda.get_rng_state(self.device)
        checkpoint["results"] = self.results

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.random_state = checkpoint["random_state"]
        self.cuda_random_state = checkpoint.get("cuda_random_state")
        self.results = checkpoint["results"]

    def on_train_start(self) -> None:
        if self.random_state is not None:
            torch.set_rng_state(self.random_state.cpu())
            if self.cuda_random_state is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(self.cuda_random_state.cpu(), self.device)
            self.random_state = self.cuda_random_state = None

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The batch's logits (B, C), float32, for callbacks; the metrics have seen them."""
        return self._measure(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        self._publish("val", self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """As `validation_step`, for the test set."""
        return self._measure(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        self._publish("test", self.test_metrics)

    def _measure(self, batch: tuple[Tensor, Tensor, Tensor], metrics: HeldOut) -> Tensor:
        images, labels, _index = batch
        logits: Tensor = self(images).float()
        metrics.update(logits, labels)
        return logits

    def _publish(self, split: str, metrics: HeldOut) -> None:
        values = metrics.compute_and_reset()
        confusion = values.pop("confusion")
        # A class without images has no accuracy: 0/0 is left as NaN.
        per_class = dict(zip(self.classes, confusion.diag() / confusion.sum(dim=1), strict=True))
        logged = values | {f"accuracy_class/{name}": value for name, value in per_class.items()}
        # The values are those of all ranks already: the mean over them is the value itself.
        for name, value in logged.items():
            self.log(f"{split}/{name}", value.float(), logger=False, sync_dist=True)
        if not self.trainer.sanity_checking:
            self.results[split] = {name: float(value) for name, value in values.items()} | {
                "accuracy_per_class": {name: float(value) for name, value in per_class.items()},
                "confusion": confusion.tolist(),
            }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a schedule over exactly the steps that the trainer will make.

        Raises:
            UserError: the schedule has no end or breaks off, or the trainer's intervals do not fit
                into an epoch.
        """
        if self.decay_norm_and_bias:
            groups = [{"params": list(self.network.parameters())}]
            groups[0]["weight_decay"] = self.weight_decay  # type: ignore[assignment]
        else:
            groups = decay_groups(self.network, self.weight_decay)
        optimizer = self.make_optimizer(groups)
        try:  # reads the length of an epoch, and finds what does not fit to it
            steps = self.trainer.estimated_stepping_batches
        except UserError:
            raise
        except (ValueError, MisconfigurationException) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from None
        if not math.isfinite(steps):
            raise UserError(
                f"trainer.max_epochs={self.trainer.max_epochs}: the schedule needs an end; "
                "give trainer.max_epochs or trainer.max_steps"
            )
        return {
            "optimizer": optimizer,
            "lr_scheduler": self.make_scheduler(optimizer, int(steps)),
        }


def _finite(network: nn.Module, optimizer_states: Sequence[dict[str, Any]]) -> bool:
    """Whether all parameters, and all that optimizers keep of them, are finite."""
    kept = (
        value
        for optimizer in optimizer_states
        for state in optimizer["state"].values()
        for value in state.values()
    )
    return all(
        bool(torch.isfinite(tensor).all())
        for tensor in (*network.parameters(), *kept)
        if torch.is_tensor(tensor)
    )
