"""A network under audit: its images, what it answers to them, and a way to ask it more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats
from scipy.special import softmax
from torch import nn

from augcam.data.normalize import network_input
from augcam.errors import UserError

# What is fewer gives no verdict: sixteen donors are asked, and what they carry is tested on others.
IMAGES_NEEDED = 16

# A network whose accuracy is no better than this p against the same answers in any other order.
_LEARNT = 0.01

# Called with the number of images that have gone through the network since the last call.
Progress = Callable[[int], None]


@dataclass
class Subject:
    """The network and its images.

    Attributes:
        network: (B, 3, H, W) normalized to logits (B, C); in evaluation mode.
        images: uint8 (N, H, W, 3).
        labels: int64 (N,).
        masks: bool (N, H, W), true on the object; or None.
        classes: the C names.
        mean, std: of each channel in 0..1, of the network's normalization.
        logits: float32 (N, C), of the images as they are.
        asked: images that have gone through the network.
    """

    network: nn.Module
    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    classes: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    batch: int = 100
    progress: Progress | None = None
    asked: int = 0
    logits: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.logits = self.ask(self.images)
        if not np.isfinite(self.logits).all():
            raise UserError(
                f"the network gives NaN for {int((~np.isfinite(self.logits)).any(1).sum())} of "
                f"{len(self.images)} images: its training diverged, and there is nothing to audit"
            )

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,)."""
        return self.logits.argmax(1)

    @property
    def confidence(self) -> np.ndarray:
        """The predicted class's probability, float32 (N,)."""
        confidence: np.ndarray = softmax(self.logits, axis=-1).max(1)
        return confidence

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.images.shape[1], self.images.shape[2]

    def normalized(self, images: np.ndarray) -> torch.Tensor:
        """uint8 (B, H, W, 3) as the network takes it."""
        device = next(self.network.parameters()).device
        return network_input(images, self.mean, self.std, device)

    def ask(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (B, C), of images uint8 (B, H, W, 3)."""
        found = [np.zeros((0, len(self.classes)), np.float32)]
        for start in range(0, len(images), self.batch):
            found.append(self.answers(self.normalized(images[start : start + self.batch])))
        return np.concatenate(found)

    def answers(self, inputs: torch.Tensor) -> np.ndarray:
        """Logits, float32 (B, C), of one batch that is normalized already."""
        with torch.inference_mode():
            logits: np.ndarray = self.network(inputs).float().cpu().numpy()
        self.count(len(logits))
        return logits

    def count(self, images: int) -> None:
        """Note that so many more images have gone through the network."""
        self.asked += images
        if self.progress is not None:
            self.progress(images)

    def has_learnt(self) -> bool:
        """Whether it is right more often than its answers would be if they were dealt to other images.

        The agreement by chance is Cohen's (1960): a network that always names the largest class has no
        more, one of 95% accuracy on images of which 95% are of one class may.
        """
        n = len(self.labels)
        of_labels, of_answers = (
            np.bincount(one, minlength=len(self.classes)) / n
            for one in (self.labels, self.predicted)
        )
        right = int((self.predicted == self.labels).sum())
        chance = min(float(of_labels @ of_answers), 1.0)
        test = stats.binomtest(right, n, chance, alternative="greater")
        return bool(test.pvalue < _LEARNT)


def margins(logits: np.ndarray, target: int) -> np.ndarray:
    """The target's logit less the largest of the others, (...,)."""
    others = np.delete(logits, target, axis=-1).max(-1)
    difference: np.ndarray = logits[..., target] - others
    return difference
