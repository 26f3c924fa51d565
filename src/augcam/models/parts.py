"""The parts of any network: its head, its stages, and those that are not to be trained."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn

from augcam.errors import UserError, nearest


def head_name(network: nn.Module, num_classes: int, asked: str) -> str:
    """The name of the layer that makes the logits: the last one with `num_classes` outputs.

    Args:
        asked: the key of the config that asks for it, and its value.

    Raises:
        UserError: there is none.
    """
    head = ""
    for name, module in network.named_modules():
        outputs = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and outputs == num_classes:
            head = name
    if not head:
        raise UserError(
            f"{asked}: needs to know the head of {type(network).__name__}, and none of its Linear and "
            f"Conv2d layers has {num_classes} outputs, one for each class"
        )
    return head


def stages(network: nn.Module, head: str) -> list[list[str]]:
    """The parts of a network in order, up to its classifier: names of modules that have parameters.

    Single layers that follow each other are one stage, as `conv1` and `bn1` of a ResNet; a module with
    four fifths of the parameters or more (`features`, `blocks`, `encoder`) stands for its parts. The
    module at the top that holds the head is no stage, nor is what it has beside the head.
    """
    top, prefix = network, ""
    while True:  # a network that only wraps another has its stages there
        parts = {f"{prefix}{n}": m for n, m in top.named_children() if _size(m)}
        outside = {n: m for n, m in parts.items() if not f"{head}.".startswith(f"{n}.")}
        if outside or not parts or head in parts:
            break
        prefix, top = next((f"{n}.", m) for n, m in parts.items())
    whole = sum(map(_size, outside.values()))
    listed: list[list[str]] = []

    def add(modules: Mapping[str, nn.Module]) -> None:
        after_single = False
        for name, module in modules.items():
            inside = {f"{name}.{n}": m for n, m in module.named_children() if _size(m)}
            if inside and _size(module) >= 0.8 * whole:
                add(inside)
            elif after_single and not inside:
                listed[-1].append(name)
            else:
                listed.append([name])
            after_single = not inside

    add(outside)
    return listed


def freeze(network: nn.Module, parts: int | Sequence[str], head: str = "") -> None:
    """Take parts of a network out of training, and keep them in evaluation mode while the rest trains.

    A frozen BatchNorm would otherwise go on averaging its statistics, and Dropout dropping.

    Args:
        parts: prefixes of parameter names (`layer1`, `blocks.0`, `cls_token`), or the number of
            `stages` to freeze from the first one on.
        head: name of the layer that makes the logits, before which the last stage ends.

    Raises:
        UserError: there is no such part, or nothing would be left to train.
    """
    if isinstance(parts, int):
        known = stages(network, head)
        if parts > len(known):
            listed = ", ".join("+".join(stage) for stage in known)
            raise UserError(f"model.freeze={parts}: there are {len(known)} stages: {listed}")
        parts = [name for stage in known[:parts] for name in stage]
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    for part in parts:
        within = [p for name, p in parameters.items() if f"{name}.".startswith(f"{part}.")]
        if not within:
            names = [name for name in modules if name and name.count(".") < 2]
            raise UserError(f"model.freeze={part}: no such part; {nearest(part, names)}")
        for parameter in within:
            parameter.requires_grad_(False)
        for module in modules[part].modules() if part in modules else ():
            module.eval()
            module.train = partial(_unchanged, module)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError("model.freeze: nothing is left to train")


def _unchanged(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
