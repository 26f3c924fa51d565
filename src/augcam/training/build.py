"""Config -> data and network, for a new run and for a finished one."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
from hydra.utils import get_class
from pytorch_lightning.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim import Optimizer

from augcam.config.schema import Config
from augcam.errors import UserError
from augcam.models.parts import head_name
from augcam.runs.build import build_network
from augcam.training.module import Classifier


def build_classifier(config: Config, classes: Iterable[str]) -> Classifier:
    """Network, loss, optimizer and schedule of the run, compiled and laid out as the config says."""
    names = tuple(classes)
    network = build_network(config, len(names))
    if config.model.channels_last:  # auto too: measured faster in every precision
        network = network.to(memory_format=torch.channels_last)
    if config.model.compile:
        network.compile()  # in place: the names in checkpoints stay
    make_optimizer = _optimizer_maker(config)
    if config.optim.head_lr is not None:
        head = network.get_submodule(head_name(network, len(names)))
        make_optimizer = partial(with_head_lr, make_optimizer, list(head.parameters()), config)
    return Classifier(
        network,
        names,
        make_optimizer=make_optimizer,
        make_scheduler=partial(_make_scheduler, config),
        weight_decay=config.optim.weight_decay,
        decay_norm_and_bias=config.optim.decay_norm_and_bias,
        label_smoothing=config.loss.label_smoothing,
        l1=config.loss.l1,
    )


def with_head_lr(
    make_optimizer: Callable[..., Optimizer],
    head: Sequence[nn.Parameter],
    config: Config,
    groups: Iterable[dict[str, Any]],
) -> Optimizer:
    """The optimizer of `groups` in which the head's parameters have `optim.head_lr`."""
    split = []
    for group in groups:
        for inside, lr in ((False, config.optim.lr), (True, config.optim.head_lr)):
            chosen = [p for p in group["params"] if any(p is own for own in head) == inside]
            if chosen:
                split.append(group | {"params": chosen, "lr": lr})
    return make_optimizer(split)


def _optimizer_maker(config: Config) -> Callable[[Iterable[dict[str, Any]]], Optimizer]:
    """The optimizer as the config has it, made once on the side: a wrong argument is told at once."""
    said = "optim"
    try:
        kind, arguments = get_class(config.optim.target), config.optim.arguments()
        # One kernel for all parameters where torch has it; the scaler of 16-mixed cannot clip then.
        chosen = {"fused", "foreach", "differentiable"} & arguments.keys()
        if "fused" in signature(kind).parameters and not chosen:
            arguments["fused"] = config.trainer.precision != "16-mixed"
        maker = partial(kind, **arguments)
        optimizer = maker([nn.Parameter(torch.zeros(1))])
        said = "scheduler"
        _make_scheduler(config, optimizer, steps=100)
    except (TypeError, ValueError, ImportError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{said}: {reason}") from None
    return maker


def _make_scheduler(config: Config, optimizer: Optimizer, steps: int) -> LRSchedulerConfigType:
    maker: Any = get_class(config.scheduler.target)
    arguments: dict[str, Any] = {
        name: steps if value == "auto" else value
        for name, value in config.scheduler.arguments().items()
    }
    if "milestones" in arguments:
        arguments["milestones"] = [round(share * steps) for share in arguments["milestones"]]
    if isinstance(arguments.get("max_lr"), float) and config.optim.head_lr is not None:
        # OneCycleLR sets the rates itself: each group's in proportion.
        arguments["max_lr"] = [
            arguments["max_lr"] * group["lr"] / config.optim.lr for group in optimizer.param_groups
        ]
    if arguments.get("pct_start", 0) * arguments.get("total_steps", 0) == 1:
        arguments["pct_start"] *= 1 + 1e-9  # a climb of no length: OneCycleLR divides 0 by 0
    return {"scheduler": maker(optimizer, **arguments), "interval": config.scheduler.interval}
