"""Config -> the LightningModule: network, loss, optimizer and schedule."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from pytorch_lightning.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from augcam.config.build import build, located
from augcam.config.model import ResNetConfig
from augcam.config.schema import Config
from augcam.errors import UserError, shown
from augcam.models.parts import head_name
from augcam.runs.build import build_network, check_logits, image_size
from augcam.training.module import Classifier


def build_classifier(config: Config, classes: Iterable[str]) -> Classifier:
    """Network, loss, optimizer and schedule of the run, compiled where the config says so."""
    names = tuple(classes)
    network = build_network(config, len(names))
    if not isinstance(config.model, ResNetConfig):
        check_logits(network, config.model, len(names), image_size(config), training=True)
    if config.model.compile:
        network.compile()  # in place: the names in checkpoints stay
    make_optimizer = make_one = _optimizer_maker(config)
    if config.optim.head_lr is not None:
        asked = f"optim.head_lr={config.optim.head_lr}"
        head = network.get_submodule(head_name(network, len(names), asked))
        make_optimizer = partial(with_head_lr, make_optimizer, list(head.parameters()), config)
    return Classifier(
        network,
        names,
        make_optimizer=make_optimizer,
        make_scheduler=partial(_make_scheduler, config, make_one),
        weight_decay=config.optim.weight_decay,
        decay_norm_and_bias=config.optim.decay_norm_and_bias,
        label_smoothing=config.loss.label_smoothing,
        l1=config.loss.l1,
        jsd=config.loss.jsd,
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


def _optimizer_maker(config: Config) -> Callable[..., Optimizer]:
    """The optimizer as the config has it, made once on the side: a wrong argument is known at once."""
    node = {"_target_": config.optim.target, **config.optim.arguments()}
    # One kernel for all parameters where torch has it; the scaler of 16-mixed cannot clip then.
    chosen = {"fused", "foreach", "differentiable"} & node.keys()
    if "fused" in signature(located(config.optim.target, "optim")).parameters and not chosen:
        node["fused"] = config.trainer.precision != "16-mixed"

    def maker(params: Iterable[Any]) -> Optimizer:
        return build(node, Optimizer, "optim", params=params)

    maker([nn.Parameter(torch.zeros(1))])
    _rehearse(config, maker, steps=1)
    return maker


def _make_scheduler(
    config: Config,
    make_optimizer: Callable[..., Optimizer],
    optimizer: Optimizer,
    steps: int,
) -> LRSchedulerConfigType:
    """The schedule over `steps` optimizer steps, known to reach its end.

    Raises:
        UserError: it would not.
    """
    _rehearse(config, make_optimizer, steps)
    return {
        "scheduler": _scheduler(config, optimizer, steps),
        "interval": config.scheduler.interval,
    }


def _rehearse(config: Config, make_optimizer: Callable[..., Optimizer], steps: int) -> None:
    """Go through the schedule of a run on the side: a schedule that ends early ends here.

    Raises:
        UserError: it cannot be made, stops before the run does, or gives a rate that is none.
    """
    given, done = config.scheduler, 0
    try:
        optimizer = make_optimizer([nn.Parameter(torch.zeros(1))])
        scheduler = _scheduler(config, optimizer, steps)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise UserError(
                f"scheduler._target_={given.target}: waits for a metric, and a schedule here follows "
                "from the number of steps alone; scheduler=multistep drops the rate at set times"
            )
        while done < _length(config, steps):
            rate = float(optimizer.param_groups[0]["lr"])
            if not 0 <= rate < math.inf:
                raise ValueError(f"a learning rate of {rate}")
            optimizer.step()  # without gradients; torch warns of a schedule that is ahead
            scheduler.step()
            done += 1
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        arguments = ", ".join(f"{name}={value}" for name, value in given.arguments().items())
        raise UserError(
            f"scheduler: {given.target.rpartition('.')[2]} with {arguments}: {shown(error, 200)} "
            f"(after {done} of its {given.interval}s)"
        ) from None


def _length(config: Config, steps: int) -> int:
    """How often the schedule steps in a run of `steps` optimizer steps."""
    return config.trainer.max_epochs if config.scheduler.interval == "epoch" else steps


def _scheduler(config: Config, optimizer: Optimizer, steps: int) -> Any:
    node = {"_target_": config.scheduler.target, **config.scheduler.arguments()}
    return _over(_length(config, steps), node, "scheduler", config, optimizer)


def _over(
    length: int, node: Mapping[str, Any], key: str, config: Config, optimizer: Optimizer
) -> Any:
    """The schedule that `node` describes, over `length` steps of it, with those that it is made of."""
    arguments: dict[str, Any] = {n: length if v == "auto" else v for n, v in node.items()}
    inside: dict[str, Any] = {}
    if "milestones" in arguments:
        arguments["milestones"] = [round(share * length) for share in arguments["milestones"]]
    if isinstance(parts := arguments.get("schedulers"), list):
        # Of SequentialLR, each from one milestone to the next; of ChainedScheduler, all at once.
        edges = [0, *arguments.get("milestones", ()), length]
        lengths = [max(1, end - begin) for begin, end in pairwise(edges)]
        if len(lengths) != len(parts):
            lengths = [length] * len(parts)
        inside["schedulers"] = [
            _over(lengths[i], part, f"{key}.schedulers.{i}", config, optimizer)
            for i, part in enumerate(parts)
        ]
        del arguments["schedulers"]
    if isinstance(arguments.get("max_lr"), int | float) and config.optim.head_lr is not None:
        # OneCycleLR sets the rates itself: each group's in proportion.
        arguments["max_lr"] = [
            arguments["max_lr"] * group["lr"] / config.optim.lr for group in optimizer.param_groups
        ]
    if arguments.get("pct_start", 0) * arguments.get("total_steps", 0) == 1:
        arguments["pct_start"] *= 1 + 1e-9  # a climb of no length: OneCycleLR divides 0 by 0
    return build(arguments, LRScheduler, key, optimizer=optimizer, **inside)
