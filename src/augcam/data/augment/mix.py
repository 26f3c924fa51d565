"""MixUp and CutMix: a whole batch and its labels, mixed where the network is.

torchvision's transforms, drawn from a stream of the batch's own: what happens to a batch is a pure
function of (seed, epoch, number of the batch), the same after a resume, and the same under any number
of processes if each mixes the whole global batch and keeps its share.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

_PURPOSE = 0x313  # keeps this stream apart from others made of the same seed and epoch


class Mix:
    """Mixes each image of a batch, and its label, with its neighbour in the batch.

    Batches are shuffled, so the neighbour is a random image. Of several kinds one is drawn for each
    batch, with equal chances.

    Args:
        kinds: torchvision's transforms, which take and return (images, labels).
        num_classes: C.
        seed: the run's seed.
        p: probability that a batch is mixed at all.
    """

    def __init__(
        self,
        kinds: Sequence[v2.MixUp | v2.CutMix],
        num_classes: int,
        seed: int,
        p: float = 1.0,
    ) -> None:
        self.kinds = tuple(kinds)
        self.num_classes = num_classes
        self.seed = seed
        self.p = p

    def __call__(
        self, images: Tensor, labels: Tensor, epoch: int, number: int
    ) -> tuple[Tensor, Tensor]:
        """One batch, mixed or left as it is.

        Args:
            images: float (B, 3, H, W); not changed.
            labels: int64 (B,).
            epoch, number: of the batch, both counted from 0.

        Returns:
            The images, and float32 (B, C): each class's share in each image, rows sum to 1.
        """
        random = np.random.default_rng([self.seed, epoch, number, _PURPOSE])
        if not self.kinds or random.random() >= self.p:
            return images, torch.nn.functional.one_hot(labels, self.num_classes).float()
        kind = self.kinds[random.integers(len(self.kinds))]
        # The CPU's stream, from which torchvision draws; those of GPUs, dropout's, are left alone.
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(int(random.integers(2**63)))
        try:
            mixed, shares = kind(images, labels)
        finally:
            torch.set_rng_state(before)
        return mixed, shares


def build(
    mixup: float | None, cutmix: float | None, num_classes: int, seed: int, p: float = 1.0
) -> Mix | None:
    """What a config asks for; None where it asks for nothing.

    Args:
        mixup, cutmix: the alpha of each kind's Beta distribution; None leaves the kind out.
        num_classes: of the data set.
        seed: the run's seed.
        p: probability that a batch is mixed.
    """
    kinds: list[v2.MixUp | v2.CutMix] = []
    if mixup is not None:
        kinds.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix is not None:
        kinds.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    return Mix(kinds, num_classes, seed, p) if kinds and p > 0 else None
