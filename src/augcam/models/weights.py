"""Weights from a file into a network, with nothing executed and nothing silently left out."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from augcam.errors import UserError, first_line

# Where training programs keep the weights within what they save, and what they put before the names.
_INSIDE = ("state_dict", "model_state_dict", "state_dict_ema", "model", "network")
_PREFIXES = ("network.", "model.", "module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name: a state dict, a Lightning checkpoint, timm's, or safetensors.

    Only tensors and plain values are read (`weights_only=True`): nothing in the file is executed.

    Raises:
        UserError: the file is missing or damaged, or holds anything else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"weights={path}: there is no such file")
    try:
        content: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError:
        raise UserError(f"weights={path}: needs the package safetensors") from None
    except Exception as error:  # damaged files make any of a dozen kinds
        raise UserError(
            f"weights={path}: not a file of weights and plain values ({first_line(error)})"
        ) from None
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {
        str(name): value
        for name, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(value, Tensor)
    }
    if not state:
        raise UserError(f"weights={path}: holds no weights by name")
    return state


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], new: Sequence[str], origin: str
) -> list[str]:
    """Copy weights into a network; the parts in `new` may stay as they are initialised.

    Args:
        state: tensors by the network's own names, or as torchvision's files have them; a prefix that a
            wrapper put before them, such as `network.` or `module.`, is taken off.
        new: names of modules which need not fit: the head, and a changed first convolution.
        origin: where the weights are from, for the message.

    Returns:
        The parameters that the weights did not fit and that stay new.

    Raises:
        UserError: outside `new` a tensor is missing, left over or of another shape.
    """

    def may_differ(name: str) -> bool:
        return any(f"{name}.".startswith(f"{module}.") for module in new)

    own = network.state_dict()
    state = _as_torchvision_loads(_without_prefixes(state, own), own)
    fits = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
    missing = [n for n in own if n not in fits and not n.endswith("num_batches_tracked")]
    wrong = [n for n in missing if not may_differ(n)]
    left_over = [n for n in state if n not in own and not may_differ(n)]
    if wrong or left_over:
        first = wrong[0] if wrong else left_over[0]
        shapes = [tuple(where[first].shape) if first in where else None for where in (state, own)]
        detail = "{}: {} there, {} in the network".format(first, *(s or "missing" for s in shapes))
        raise UserError(
            f"{origin}: not the weights of this {type(network).__name__} "
            f"({len(fits)} of {len(own)} tensors fit; {detail})"
        )
    network.load_state_dict(fits, strict=False)
    return missing


def _without_prefixes(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Without what wrappers put before the names, until one of them is the network's `own`.

    A network may have a part that is called `model` itself. A LightningModule's metrics have other
    prefixes than its network.
    """
    if any(name in own for name in state):
        return state
    for prefix in _PREFIXES:
        within = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if len(within) > len(state) / 2:
            return _without_prefixes(within, own)
    return state


# A DenseNet's layers in torchvision's files, from when names of modules could have dots.
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def _as_torchvision_loads(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state by the network's `own` names, without the auxiliary heads that it does not have.

    torchvision's files of DenseNet have other names, and those of GoogLeNet and Inception have heads
    that serve the training alone; its own loading sees to both.
    """
    named = {n if n in own else _DENSE.sub(r"\1\2", n): value for n, value in state.items()}
    return {n: v for n, v in named.items() if n in own or not n.lower().startswith("aux")}
