"""A finished run, opened from its folder: its network, its test set, and what it predicted."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from augcam.config.model import ResNetConfig
from augcam.data.datasets.base import ImageDataset, check_fingerprint
from augcam.data.datasets.stored import StoredImages
from augcam.data.normalize import network_input
from augcam.errors import UserError, first_line
from augcam.runs.build import build_network, build_source
from augcam.runs.run_folder import RunFolder


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
    try:
        saved = read_checkpoint(checkpoint)["state_dict"]
    except UserError as error:
        if checkpoint != folder.best or not folder.last.is_file():
            raise
        raise UserError(f"{error}\ncheckpoint=last takes the last epoch's weights") from None
    prefix = "network."
    weights = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{checkpoint}: its weights do not fit the network of this run's config "
            f"({folder.config().model.label}, {num_classes} classes)"
        ) from None
    return network.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Only tensors and plain values are read: nothing in it is executed.

    Raises:
        UserError: it cannot be read, is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged: its checksum differs")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(saved, dict) or "state_dict" not in saved:
            raise ValueError("no state_dict")
    except Exception as error:
        raise UserError(
            f"{path}: not a checkpoint of weights and plain values ({first_line(error)})"
        ) from None
    return saved


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, its network and test set ready to be asked.

    Attributes:
        network: in evaluation mode, float32, on the CPU or the GPU.
        normalize: uint8 images (B, H, W, 3) to the network's input (B, 3, H, W).
        images, labels, masks: the test set; masks are None where none are known.
        predicted, confidence: what the network says of each test image.
    """

    folder: RunFolder
    network: nn.Module
    classes: tuple[str, ...]
    normalize: Callable[[np.ndarray], Tensor]
    images: np.ndarray | StoredImages
    labels: np.ndarray
    masks: np.ndarray | None
    predicted: np.ndarray
    confidence: np.ndarray

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (B, C) of normalized images (B, 3, H, W)."""
        with torch.inference_mode():
            probabilities: Tensor = self.network(images).softmax(dim=1)
        return probabilities


def run_source(folder: RunFolder) -> ImageDataset:
    """The run's data set, prepared.

    Raises:
        UserError: its images cannot be read, or have changed since the run was made.
    """
    config = folder.config()
    source = build_source(config)
    try:
        source.prepare()
    except UserError as error:
        root = getattr(config.data, "root", None)
        if root is None or Path(root).expanduser().exists():
            raise
        raise UserError(f"{error}\ndata.root=DIR says where the run's data are now") from None
    recorded = (folder.metrics() or {}).get("data_fingerprint")
    if recorded is None and folder.last.is_file():  # it has not finished
        checkpoint = read_checkpoint(folder.last)
        recorded = checkpoint.get("ImageDataModule", {}).get("fingerprint")
    check_fingerprint(recorded, source, f"run={folder}")
    return source


def open_run(
    folder: RunFolder, checkpoint: Literal["last", "best"], progress: Progress
) -> FinishedRun:
    """The run's network and test set, and the predictions that it kept or else makes now."""
    source = run_source(folder)
    path = folder.last if checkpoint == "last" else folder.best
    network = load_network(folder, path, len(source.classes))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)
    test = source.test()

    normalize = partial(network_input, mean=source.mean, std=source.std, device=device)
    kept = kept_predictions(folder) if checkpoint == "last" else None
    # A run that was limited with trainer.limit_test_batches kept fewer.
    if kept is None or len(kept[0]) != len(test.labels):
        task = progress.add_task("predicting the test set", total=len(test.labels))
        batch = min(200, folder.config().data.eval_batch_size)
        probabilities = []
        with torch.inference_mode():
            for start in range(0, len(test.labels), batch):
                inputs = normalize(test.images[start : start + batch])
                probabilities.append(network(inputs).softmax(1).cpu())
                progress.update(task, advance=len(probabilities[-1]))
        top = torch.cat(probabilities).max(dim=1)
        kept = top.indices.numpy(), top.values.numpy()
    predicted, confidence = kept
    return FinishedRun(
        folder,
        network,
        source.classes,
        normalize,
        test.images,
        test.labels,
        test.masks,
        predicted.astype(np.int64),
        confidence.astype(np.float32),
    )


def untrained_network(run: FinishedRun, seed: int) -> nn.Module:
    """A network as the run's training started: its config's own initialisation, drawn by `seed`.

    Filters that are computed from the data, and not learnt, are the run's.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        # Not the seed itself: the run may have started with that, from the very same weights.
        torch.manual_seed(int(np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1)[0]))
        network = build_network(run.folder.config(), len(run.classes))
    model = run.folder.config().model
    if isinstance(model, ResNetConfig) and model.whiten:
        fixed = network.get_parameter("conv1.0.weight").data
        fixed.copy_(run.network.get_parameter("conv1.0.weight").data)
    return network.eval()


def kept_predictions(folder: RunFolder) -> tuple[np.ndarray, np.ndarray] | None:
    """The class that a run predicted for each test image, and its confidence; None if not kept."""
    try:
        with np.load(folder.predictions_file) as saved:
            return saved["predicted"], saved["confidence"]
    except (OSError, ValueError, KeyError, MemoryError, zipfile.BadZipFile):
        return None  # MemoryError: a header that claims more than there is
