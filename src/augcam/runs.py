"""Config -> data and network, for a new run and for a finished one."""

import ctypes
import os
import platform
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from hydra.utils import get_class
from pytorch_lightning.utilities.types import LRSchedulerConfigType
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Optimizer

from augcam.config import Config
from augcam.data import augment
from augcam.data.datamodule import ImageDataModule
from augcam.data.sources import CIFAR10, ImageFolder, Shapes, Source
from augcam.errors import UserError
from augcam.folder import RunFolder
from augcam.model.classifier import Classifier
from augcam.model.resnet import resnet


def build_source(config: Config) -> Source:
    """Where the run's images come from."""
    data = config.data
    if data.name == "cifar10":
        return CIFAR10(data.root)
    if data.name == "shapes":
        return Shapes(data.seed, data.train_size, data.test_size, data.shortcut)
    return ImageFolder(data.root, data.image_size)


def build_data(config: Config) -> ImageDataModule:
    """The run's LightningDataModule, nothing read yet.

    Raises:
        UserError: the augmentation pipeline cannot be built.
    """
    workers = config.data.num_workers
    return ImageDataModule(
        build_source(config),
        augment.build(config.aug, config.seed),
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        num_workers=auto_workers(config.trainer.accelerator) if workers == "auto" else workers,
        holdout=config.data.holdout,
        seed=config.seed,
    )


def build_network(config: Config, num_classes: int) -> nn.Module:
    """The run's network, freshly initialised: (B, 3, H, W) float to (B, num_classes) logits."""
    model = config.model
    return resnet(
        num_classes, model.width, model.blocks, model.strides, model.dropout, model.whiten
    )


def build_classifier(config: Config, classes: Iterable[str]) -> Classifier:
    """Network, loss, optimizer and schedule of the run, compiled and laid out as the config says."""
    names = tuple(classes)
    network = build_network(config, len(names))
    if config.model.channels_last:  # auto too: measured faster in every precision
        network = network.to(memory_format=torch.channels_last)
    if config.model.compile:
        network.compile()  # in place: the names in checkpoints stay
    return Classifier(
        network,
        names,
        make_optimizer=_optimizer_maker(config),
        make_scheduler=partial(_make_scheduler, config),
        weight_decay=config.optim.weight_decay,
        decay_norm_and_bias=config.optim.decay_norm_and_bias,
        label_smoothing=config.loss.label_smoothing,
        l1=config.loss.l1,
    )


def load_network(folder: RunFolder, checkpoint: Path, num_classes: int) -> nn.Module:
    """The network of a run with the weights of one of its checkpoints, in evaluation mode.

    Only tensors and plain values are read (`weights_only=True`): nothing in the file is executed.

    Raises:
        UserError: the checkpoint is missing, cannot be read, holds other things than weights, or
            belongs to another architecture.
    """
    network = build_network(folder.config(), num_classes)
    if not checkpoint.is_file():
        raise UserError(f"run={folder}: there is no {checkpoint.name} yet; has an epoch ended?")
    saved = read_checkpoint(checkpoint)["state_dict"]
    prefix = "network."
    weights = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{checkpoint}: its weights do not fit the network of this run's config "
            f"({folder.config().model.name}, {num_classes} classes)"
        ) from None
    return network.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Only tensors and plain values are read: nothing in it is executed.

    Raises:
        UserError: it cannot be read, is damaged, or holds anything else.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(saved, dict) or "state_dict" not in saved:
            raise ValueError("no state_dict")
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"{path}: not a checkpoint of weights and plain values ({reason})"
        ) from None
    return saved


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, its network and test set ready to be asked.

    Attributes:
        network: in evaluation mode, float32, on the CPU or the GPU.
        normalise: uint8 images (B, H, W, 3) to the network's input (B, 3, H, W).
        images, labels, masks: the test set; masks are None where none are known.
        predicted, confidence: what the network says of each test image.
    """

    folder: RunFolder
    network: nn.Module
    classes: tuple[str, ...]
    normalise: Callable[[np.ndarray], Tensor]
    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    predicted: np.ndarray
    confidence: np.ndarray

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (B, C) of normalised images (B, 3, H, W)."""
        with torch.inference_mode():
            probabilities: Tensor = self.network(images).softmax(dim=1)
        return probabilities


def open_run(
    folder: RunFolder, checkpoint: Literal["last", "best"], progress: Progress
) -> FinishedRun:
    """The run's network and test set, and the predictions that it kept or else makes now."""
    config = folder.config()
    source = build_source(config)
    source.prepare()
    path = folder.last if checkpoint == "last" else folder.best
    network = load_network(folder, path, len(source.classes))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    test = source.test()

    def normalise(images: np.ndarray) -> Tensor:
        return augment.tail(
            torch.from_numpy(np.ascontiguousarray(images)).to(device), source.mean, source.std
        )

    kept = kept_predictions(folder) if checkpoint == "last" else None
    # A run that was limited with trainer.limit_test_batches kept fewer.
    if kept is None or len(kept[0]) != len(test.labels):
        task = progress.add_task("predicting the test set", total=len(test.labels))
        found = []
        with torch.inference_mode():
            for start in range(0, len(test.labels), 200):
                found.append(network(normalise(test.images[start : start + 200])).softmax(1).cpu())
                progress.update(task, advance=len(found[-1]))
        top = torch.cat(found).max(dim=1)
        kept = top.indices.numpy(), top.values.numpy()
    predicted, confidence = kept
    return FinishedRun(
        folder,
        network,
        source.classes,
        normalise,
        test.images,
        test.labels,
        test.masks,
        predicted.astype(np.int64),
        confidence.astype(np.float32),
    )


def kept_predictions(folder: RunFolder) -> tuple[np.ndarray, np.ndarray] | None:
    """The class that a run predicted for each test image, and its confidence; None if not kept."""
    try:
        with np.load(folder.predictions_file) as saved:
            return saved["predicted"], saved["confidence"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as {"a.b.c": value}."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found


def _optimizer_maker(config: Config) -> Callable[[Iterable[dict[str, Any]]], Optimizer]:
    """The optimizer as the config has it, made once on the side: a wrong argument is told at once."""
    said = "optim"
    try:
        kind, arguments = get_class(config.optim.target), config.optim.arguments()
        # One kernel for all parameters where torch has it; the scaler of 16-mixed cannot clip then.
        chosen = {"fused", "foreach", "differentiable"} & arguments.keys()
        if "fused" in signature(kind).parameters and not chosen:
            arguments["fused"] = config.trainer.precision != "16-mixed"
        maker = partial(kind, **arguments)
        optimizer = maker([nn.Parameter(torch.zeros(1))])
        said = "scheduler"
        _make_scheduler(config, optimizer, steps=100)
    except (TypeError, ValueError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{said}: {reason}") from None
    return maker


def _make_scheduler(config: Config, optimizer: Optimizer, steps: int) -> LRSchedulerConfigType:
    maker: Any = get_class(config.scheduler.target)
    arguments: dict[str, Any] = {
        name: steps if value == "auto" else value
        for name, value in config.scheduler.arguments().items()
    }
    if "milestones" in arguments:
        arguments["milestones"] = [round(share * steps) for share in arguments["milestones"]]
    if arguments.get("pct_start", 0) * arguments.get("total_steps", 0) == 1:
        arguments["pct_start"] *= 1 + 1e-9  # a climb of no length: OneCycleLR divides 0 by 0
    return {"scheduler": maker(optimizer, **arguments), "interval": config.scheduler.interval}


def auto_precision(accelerator: str) -> str:
    """bf16-mixed where the hardware computes in bfloat16, else 32-true.

    Emulated bfloat16 is far slower than float32: on an AVX2 CPU one step took 25 times as long.
    """
    if uses_gpu(accelerator):
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return "bf16-mixed" if native else "32-true"
    return "32-true"


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors on the CPU give back, where glibc is the allocator.

    By default blocks above 32 MB, an activation of ResNet18's first stage, go back to the system at
    once, and each new one is filled with zeros, page by page (docs/performance.md has what that costs).
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)  # never


def auto_workers(accelerator: str) -> int:
    """Loader processes. On a CPU the training step is the limit and workers would take its cores."""
    if not uses_gpu(accelerator):
        return 0
    share = max(1, torch.cuda.device_count())
    return min(16, max(1, (os.cpu_count() or 1) // share))


def uses_gpu(accelerator: str) -> bool:
    """Whether a run with this `trainer.accelerator` computes on CUDA."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def environment() -> dict[str, Any]:
    """What a number depends on beside the config: versions and machine."""
    import pytorch_lightning

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": pytorch_lightning.__version__,
        "albumentations": version("albumentations"),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
