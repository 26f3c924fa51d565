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
        kinds: torchvision's transforms, which take and return (images, shares).
        seed: the run's seed.
        p: probability that a batch is mixed at all.
    """

    def __init__(self, kinds: Sequence[v2.MixUp | v2.CutMix], seed: int, p: float = 1.0) -> None:
        self.kinds = tuple(kinds)
        self.seed = seed
        self.p = p

    def __call__(
        self, images: Tensor, shares: Tensor, epoch: int, number: int
    ) -> tuple[Tensor, Tensor]:
        """One batch, mixed or left as it is.

        Args:
            images: float (B, 3, H, W); not changed.
            shares: float32 (B, C), each class's share in each image: 1 at its label at first.
            epoch, number: of the batch, both counted from 0.

        Returns:
            Images and shares, of which each row sums to 1.
        """
        random = np.random.default_rng([self.seed, epoch, number, _PURPOSE])
        if random.random() >= self.p:
            return images, shares
        kind = self.kinds[random.integers(len(self.kinds))]
        # The CPU's stream, from which torchvision draws; those of GPUs, dropout's, are left alone.
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(int(random.integers(2**63)))
        try:
            mixed: tuple[Tensor, Tensor] = kind(images, shares)
        finally:
            torch.set_rng_state(before)
        return mixed


def build(mixup: float | None, cutmix: float | None, seed: int, p: float = 1.0) -> Mix | None:
    """What a config asks for; None where it asks for nothing.

    Args:
        mixup, cutmix: the alpha of each kind's Beta distribution; None leaves the kind out.
        seed: the run's seed.
        p: probability that a batch is mixed.
    """
    kinds: list[v2.MixUp | v2.CutMix] = []
    if mixup is not None:
        kinds.append(v2.MixUp(alpha=mixup))
    if cutmix is not None:
        kinds.append(v2.CutMix(alpha=cutmix))
    return Mix(kinds, seed, p) if kinds and p > 0 else None
