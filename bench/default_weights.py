"""`python train.py ...`, but convolutions start with PyTorch's default weights.

    python bench/default_weights.py experiment=seed/d data.holdout=test

AugCAM's start as torchvision's do (He et al., arXiv 1502.01852, fan out): at six times the variance,
where a convolution has as many channels going out as coming in. Reference D's start with the defaults.
"""

import functools
import runpy
from pathlib import Path
from typing import Any

from torch import nn

from augcam.models import resnet as module


def with_default_weights(build: Any) -> Any:
    """`build`, whose convolutions are then set back to what `nn.Conv2d` starts with."""

    @functools.wraps(build)
    def wrapped(*args: Any, **kwargs: Any) -> nn.Module:
        network: nn.Module = build(*args, **kwargs)
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                part.reset_parameters()
        return network

    return wrapped


if __name__ == "__main__":
    module.resnet = with_default_weights(module.resnet)
    runpy.run_path(str(Path(__file__).parents[1] / "train.py"), run_name="__main__")
