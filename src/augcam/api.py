"""AugCAM from Python: train as the command line does, and ask a finished run.

from augcam import load_run, train

result = train(["experiment=quickstart"])
run = load_run(result.folder)
run.predict(images)
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from augcam.config.build import trust
from augcam.config.compose import compose, folder_name, unique
from augcam.config.schema import Config, validate
from augcam.data.datamodule import ImageDataModule
from augcam.data.normalize import normalize
from augcam.errors import UserError
from augcam.explain.cam import GradCAM, Maps
from augcam.runs.build import build_data
from augcam.runs.finished_run import load_network, run_source
from augcam.runs.run_folder import RunFolder, nothing_left_if_refused

if TYPE_CHECKING:
    from augcam.training.run import RunResult

BATCH = 200  # images that go through the network at once


def train(config: Sequence[str] | Config = (), folder: str | Path | None = None) -> "RunResult":
    """Train one classifier, as `augcam train OVERRIDES` does.

    Args:
        config: overrides in the command line's words, such as `["aug=cutout", "seed=2"]`, or a config.
        folder: where the run goes. One that holds a stopped run of the same config is continued, a
            finished one is left as it is. None for a new folder in `outputs/`.

    Returns:
        The run's folder and metrics.

    Raises:
        UserError: a wrong request, or the folder holds a run of another config.
    """
    from augcam.training import run as training

    overrides = None
    if not isinstance(config, Config):
        overrides = list(config)
        config = validate(compose(overrides))
    trust(config.trust)
    if folder is None:
        folder = (
            Path("outputs")
            / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{folder_name(config.name)}_{unique()}"
        )
    run_folder = RunFolder(folder)
    run_folder.path.mkdir(parents=True, exist_ok=True)
    with nothing_left_if_refused(run_folder), run_folder.locked():
        run_folder.check_continuation(config)
        if run_folder.state() != "finished":
            run_folder.save_config(config, overrides)
        return training.train(config, run_folder)


def load_run(
    folder: str | Path | RunFolder,
    checkpoint: Literal["last", "best"] = "last",
    trusted: Sequence[str] = (),
) -> "Run":
    """A run of `train`, of the command line or of a sweep, ready to be asked.

    Args:
        folder: the run folder; nothing in it is executed.
        checkpoint: whose weights.
        trusted: packages of your own that the run's config may name.

    Raises:
        UserError: not a run folder, or it has no such checkpoint yet.
    """
    trust(trusted)
    return Run(folder if isinstance(folder, RunFolder) else RunFolder(folder), checkpoint)


class Run:
    """A run that has been trained.

    Attributes:
        folder: its files.
        config: frozen and typed.
        classes: the C class names.
        network: (B, 3, H, W) normalized to logits (B, C); in evaluation mode, on the GPU where there is
            one.
    """

    def __init__(self, folder: RunFolder, checkpoint: Literal["last", "best"] = "last") -> None:
        self.folder = folder
        self.config: Config = folder.config()
        path = folder.last if checkpoint == "last" else folder.best
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network: nn.Module = load_network(folder, path, len(self.classes)).to(self.device)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The content of metrics.json; empty where the run has not written it."""
        return self.folder.metrics() or {}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        recorded = self.metrics.get("classes")
        return tuple(recorded) if recorded else tuple(self._source.classes)

    @cached_property
    def _source(self) -> Any:
        return run_source(self.folder)

    def normalize(self, images: np.ndarray | Tensor) -> Tensor:
        """Images as on disk, uint8 (B, H, W, 3), as the network sees them: float32 (B, 3, H, W).

        The data set's mean and standard deviation come from the run folder; runs of earlier versions,
        which did not keep them, need the data set.

        Raises:
            UserError: the images are of another type or shape.
        """
        given = images if isinstance(images, Tensor) else np.ascontiguousarray(images)
        pixels = torch.as_tensor(given)  # which takes no negative strides: bgr[..., ::-1]
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise UserError(
                f"Images must be uint8 (B, H, W, 3), not {tuple(pixels.shape)} {pixels.dtype}"
            )
        kept = self.metrics.get("normalize")
        mean, std = (kept["mean"], kept["std"]) if kept else (self._source.mean, self._source.std)
        return normalize(pixels.contiguous().to(self.device), mean, std)

    def predict(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Probabilities (B, C), float32, of images uint8 (B, H, W, 3)."""
        probabilities = [np.zeros((0, len(self.classes)), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                logits = self.network(self.normalize(images[start : start + BATCH]))
                probabilities.append(logits.softmax(dim=1).cpu().numpy())
        return np.concatenate(probabilities)

    def explain(
        self,
        images: np.ndarray | Tensor,
        targets: Tensor | Sequence[int] | None = None,
        layers: str | Sequence[str] | None = None,
        method: str | None = None,
    ) -> Maps:
        """Class activation maps of images uint8 (B, H, W, 3), all in one batch.

        Args:
            targets: as `GradCAM` takes them; None for the predicted classes.
            layers: as `GradCAM` takes them; None for those of the run's panels.
            method: likewise.

        Returns:
            Maps by layer: `.raw` (B, h, w), signed, and `.heatmap` (B, H, W) in 0..1.
        """
        explain = self.config.explain
        with GradCAM(self.network, layers or explain.layer, method or explain.method) as cam:
            return cam(self.normalize(images), targets)

    def datamodule(self) -> ImageDataModule:
        """The run's data with its split and its augmentation, not read yet: `setup("fit")` reads it."""
        return build_data(self.config)
