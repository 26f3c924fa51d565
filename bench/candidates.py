"""Two ways to train that AugCAM does not offer, for bench/ablation.py to try.

They are callbacks of one's own, as conf/callbacks takes them:

    python train.py trust=[bench] +callbacks.lookahead._target_=bench.candidates.Lookahead
"""

from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn


class Lookahead(Callback):
    """Slow weights: every `k` steps they go `alpha` of the way to the optimizer's, and it goes on there.

    The run ends on slow weights; the optimizer's momentum and BatchNorm's statistics are left alone.
    Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610, algorithm 1.

    Args:
        k: optimizer steps between two slow ones.
        alpha: 0 (the weights stay) to 1 (as without).
    """

    def __init__(self, k: int = 5, alpha: float = 0.5) -> None:
        self.k, self.alpha = k, alpha
        self.slow: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.slow:  # a run that goes on has those of its checkpoint
            self.slow = [p.detach().clone() for p in pl_module.parameters()]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        last = trainer.global_step == trainer.estimated_stepping_batches
        if trainer.global_step % self.k == 0 or last:
            for slow, fast in zip(self.slow, pl_module.parameters(), strict=True):
                fast.copy_(slow.lerp_(fast, self.alpha))

    def state_dict(self) -> dict[str, Any]:
        return {"slow": self.slow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.slow = state_dict["slow"]


class ProgressiveResizing(Callback):
    """Training on small images first: the network gets them at `size` pixels for a share of the epochs.

    Held-out images keep their size. Howard, fast.ai's entry to DAWNBench, 2018.

    Args:
        size: pixels, of height and width.
        until: share of the epochs, 0 to 1.
    """

    def __init__(self, size: int = 24, until: float = 0.5) -> None:
        self.size, self.until = size, until
        self.small = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.get_submodule("network").register_forward_pre_hook(self._resize)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.max_epochs is not None
        self.small = trainer.current_epoch < self.until * trainer.max_epochs

    def _resize(self, network: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        if not (self.small and network.training):
            return inputs
        size = (self.size, self.size)
        return (F.interpolate(inputs[0], size=size, mode="bilinear", antialias=True),)
