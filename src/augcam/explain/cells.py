"""Layer outputs as maps: channels first, channels last, or the tokens of a transformer."""

from typing import Any

from torch import Tensor, nn

# More than any class, distillation and register tokens that a transformer puts before its patches.
_MOST_PREFIX_TOKENS = 16


def as_cells(output: Any, image_size: tuple[int, int], prefix_tokens: int | None) -> Tensor | None:
    """What a layer gave, as (B, K, h, w): a view, so that activations and gradients fit each other.

    Tokens are laid out row by row as pytorch-grad-cam's `reshape_transform` does it for ViT and Swin.

    Args:
        output: (B, K, h, w); or (B, h, w, K), known by h and w being in the image's proportions; or
            tokens (B, P + h w, K), the first P of them no patches.
        image_size: (H, W) in pixels.
        prefix_tokens: P; None for the fewest that leave a grid in the image's proportions.

    Returns:
        None where the output is none of these, or not floating point.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim == 4:
        channels_last = not _proportional(output.shape[2:], image_size) and _proportional(
            output.shape[1:3], image_size
        )
        return output.permute(0, 3, 1, 2) if channels_last else output
    if output.ndim != 3:
        return None
    count = output.shape[1]
    prefixes = range(_MOST_PREFIX_TOKENS + 1) if prefix_tokens is None else (prefix_tokens,)
    for prefix in prefixes:
        grid = _grid(count - prefix, image_size)
        if grid is not None:
            return output[:, prefix:].transpose(1, 2).unflatten(2, grid)
    return None


def prefix_tokens(model: nn.Module) -> int | None:
    """How many tokens before the patches timm's transformers say they have; None of other models."""
    for module in model.modules():
        count = getattr(module, "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
    return None


def _proportional(cells: tuple[int, ...], image_size: tuple[int, int]) -> bool:
    """Whether h x w cells tile the image with square cells, to one cell at the edges."""
    (h, w), (height, width) = cells, image_size
    return abs(h * width - w * height) <= max(height, width)


def _grid(count: int, image_size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) with h w = `count` in exactly the image's proportions."""
    height, width = image_size
    for h in range(1, count + 1):
        if count % h == 0 and h * width == count // h * height:
            return h, count // h
    return None
