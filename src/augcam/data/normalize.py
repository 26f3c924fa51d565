"""Normalize and ToTensorV2, once for a whole batch, on the device where the network is."""

from collections.abc import Sequence

import numpy as np
import torch


def normalize(
    images: torch.Tensor,
    mean: torch.Tensor | Sequence[float],
    std: torch.Tensor | Sequence[float],
) -> torch.Tensor:
    """What Normalize(mean, std) and ToTensorV2 do to each image, for a batch, on its device.

    Args:
        images: uint8 (B, H, W, 3).
        mean, std: of each channel, of values in 0..1. Tensors on the images' device save a copy.

    Returns:
        float32 (B, 3, H, W): (images / 255 - mean) / std, in channels_last memory order, because
        the permuted NHWC array is just that.
    """
    device = images.device
    shift = torch.as_tensor(mean, dtype=torch.float32, device=device).mul(255)
    factor = torch.as_tensor(std, dtype=torch.float32, device=device).mul(255).reciprocal()
    # Written out for every pixel: torch does not vectorise over an innermost dimension of three.
    pixels = images.shape[1] * images.shape[2]
    rows = images.flatten(1).float().sub_(shift.repeat(pixels)).mul_(factor.repeat(pixels))
    return rows.view(images.shape).permute(0, 3, 1, 2)


def network_input(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> torch.Tensor:
    """Images as a data set holds them, uint8 (B, H, W, 3), as a network on `device` takes them.

    Args:
        images: of any strides.
        mean, std: as in `normalize`.

    Returns:
        As of `normalize`.
    """
    return normalize(torch.from_numpy(np.ascontiguousarray(images)).to(device), mean, std)
