"""The typed schema of a run's config, and the checks that YAML alone cannot make.

Hydra composes `conf/` into a tree of plain values; `validate` turns that tree into a frozen
`Config`, or reports every wrong key of it at once. Nothing here imports torch: a wrong value is
answered in a second.
"""

import re
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from augcam.errors import UserError

# What a config may build. A run folder can come from anybody, and `_target_` names a callable.
ALLOWED_TARGETS = ("albumentations.", "augcam.", "torch.optim.", "hydra.utils.get_object")


# What may differ when a run goes on: where and how it computes and what it shows, not what comes out.
FREE_TO_CHANGE = (
    "debug",
    "data.root",
    "data.num_workers",
    "data.eval_batch_size",
    "explain.",
    "preview.",
    "sweep.",
    "trainer.accelerator",
    "trainer.enable_progress_bar",
    "trainer.limit_test_batches",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
)


Auto = Literal["auto"]


Fraction = Annotated[float, Field(ge=0, le=1)]


BatchLimit = Annotated[int, Field(ge=0)] | Fraction | None


Precision = Literal[
    "auto", "32-true", "32", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true", "64"
]


Layer = Annotated[str, Field(min_length=1)]


Stride = Literal[1, 2]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Loader(_Strict):
    batch_size: int = Field(ge=1)
    eval_batch_size: int = Field(ge=1)
    num_workers: Annotated[int, Field(ge=0)] | Auto
    holdout: Annotated[int, Field(ge=0)] | Literal["test"]


class CIFAR10Config(_Loader):
    name: Literal["cifar10"]
    root: str

    @model_validator(mode="after")
    def _leaves_training_images(self) -> "CIFAR10Config":
        if self.holdout != "test" and self.holdout >= 50_000:
            raise ValueError(f"holdout={self.holdout}: CIFAR-10 has 50,000 training images, "
                             "so 0 to 49,990 can be held out")  # fmt: skip
        return self


class ShapesConfig(_Loader):
    name: Literal["shapes"]
    seed: int = Field(ge=0)
    train_size: int = Field(ge=20)
    test_size: int = Field(ge=10)
    shortcut: Fraction

    @model_validator(mode="after")
    def _leaves_training_images(self) -> "ShapesConfig":
        if self.holdout != "test" and self.holdout >= self.train_size:
            raise ValueError(f"holdout={self.holdout}: only train_size={self.train_size} images "
                             "are made, so fewer than that can be held out")  # fmt: skip
        return self


class FolderConfig(_Loader):
    name: Literal["folder"]
    root: str
    image_size: int = Field(ge=8, le=1024)


class ModelConfig(_Strict):
    name: str
    # Eights: with fewer channels torch 2.15 corrupts memory on a CPU in channels_last (AVX2, measured).
    width: int = Field(ge=8, multiple_of=8)
    blocks: tuple[
        Annotated[int, Field(ge=1)],
        Annotated[int, Field(ge=1)],
        Annotated[int, Field(ge=1)],
        Annotated[int, Field(ge=1)],
    ]
    strides: tuple[Stride, Stride, Stride, Stride] = (1, 2, 2, 2)
    whiten: bool = False
    init: Literal["he", "torch"] = "he"
    dropout: float = Field(ge=0, lt=1)
    channels_last: bool | Auto
    compile: bool


class LossConfig(_Strict):
    label_smoothing: float = Field(ge=0, lt=1)
    l1: float = Field(ge=0)


class OptimConfig(BaseModel):
    """A torch optimizer: `_target_` and its own arguments, beside what AugCAM adds."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: str = Field(alias="_target_", pattern=r"^torch\.optim\.\w+$")
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    decay_norm_and_bias: bool = False

    def arguments(self) -> dict[str, Any]:
        """The optimizer's keyword arguments, without `_target_` and AugCAM's own keys."""
        return self.model_dump(exclude={"target", "decay_norm_and_bias"})


class SchedulerConfig(BaseModel):
    """A torch scheduler: `_target_`, how often it steps, and its own arguments.

    An argument with the value `auto` stands for the number of optimizer steps of the whole run, and
    MultiStepLR's `milestones` are shares of it, so that a shortened run keeps the schedule's shape.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    target: str = Field(alias="_target_", pattern=r"^torch\.optim\.lr_scheduler\.\w+$")
    interval: Literal["step", "epoch"]

    def arguments(self) -> dict[str, Any]:
        """The scheduler's keyword arguments, without `_target_` and `interval`."""
        return self.model_dump(exclude={"target", "interval"})


class TrainerConfig(_Strict):
    """Lightning's Trainer flags under their own names."""

    max_epochs: int = Field(ge=1)
    min_epochs: Annotated[int, Field(ge=1)] | None
    max_steps: Literal[-1] | Annotated[int, Field(ge=1)]
    max_time: str | dict[str, int] | None
    accelerator: str
    devices: Auto | Annotated[int, Field(ge=-1)] | str | list[int]
    num_nodes: int = Field(ge=1)
    strategy: str
    precision: Precision
    sync_batchnorm: bool
    limit_train_batches: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None
    limit_val_batches: BatchLimit
    limit_test_batches: BatchLimit
    overfit_batches: Annotated[int, Field(ge=0)] | Fraction
    fast_dev_run: bool | Annotated[int, Field(ge=0)]
    val_check_interval: Annotated[int, Field(ge=1)] | Fraction | None
    check_val_every_n_epoch: int = Field(ge=1)
    num_sanity_val_steps: int = Field(ge=-1)
    log_every_n_steps: int = Field(ge=1)
    accumulate_grad_batches: int = Field(ge=1)
    gradient_clip_val: Annotated[float, Field(gt=0)] | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    deterministic: bool | Literal["warn"] | None
    benchmark: bool | None
    inference_mode: bool
    detect_anomaly: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    enable_progress_bar: bool


class ExplainConfig(_Strict):
    """What the epoch's Grad-CAM panels show."""

    images: int = Field(ge=0, le=64)
    choice: Literal["most_confident", "random"]
    layer: Layer
    method: Literal["gradcam", "gradcam++", "hirescam", "layercam"]
    every_n_epochs: int = Field(ge=1)


class PreviewConfig(_Strict):
    """The augmentation preview at the start of a run."""

    samples: int = Field(ge=0, le=32)
    draws: int = Field(ge=1, le=16)


class SweepConfig(_Strict):
    """The folder that the runs of a sweep share."""

    name: str | None
    dir: str


class Config(_Strict):
    """A run, whole. `aug` stays a plain mapping: `augcam.data.augment` checks it."""

    name: str = Field(min_length=1)
    aug_name: str
    seed: int = Field(ge=0, lt=2**32)
    debug: bool
    sweep: SweepConfig
    data: Annotated[CIFAR10Config | ShapesConfig | FolderConfig, Field(discriminator="name")]
    aug: dict[str, dict[str, Any] | None]
    model: ModelConfig
    loss: LossConfig
    optim: OptimConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    explain: ExplainConfig
    preview: PreviewConfig


def validate(tree: DictConfig | dict[str, Any]) -> Config:
    """A composed config tree as a typed, frozen `Config`.

    Raises:
        UserError: one line for every key that is unknown, of the wrong type or out of range.
    """
    try:
        plain = OmegaConf.to_container(OmegaConf.create(tree), resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key}: must be given; write {error.full_key}=...") from None
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
    problems = list(_forbidden_targets(plain))
    config = None
    try:
        config = Config.model_validate(plain)
    except ValidationError as error:
        problems += _in_words(error)
    if problems or config is None:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return config


def _forbidden_targets(node: Any, path: str = "") -> list[str]:
    if isinstance(node, list):
        return [p for i, child in enumerate(node) for p in _forbidden_targets(child, f"{path}.{i}")]
    if not isinstance(node, dict):
        return []
    found = [p for key, child in node.items() for p in _forbidden_targets(child, f"{path}.{key}")]
    target = node.get("_target_")
    if target is not None and not str(target).startswith(ALLOWED_TARGETS):
        found.append(
            f"{path.lstrip('.')}._target_={target}: only {', '.join(ALLOWED_TARGETS)} may be built"
        )
    return found


def _in_words(error: ValidationError) -> list[str]:
    """One line a key. A union reports each of its branches: they are joined with "or"."""
    said: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        keys = [str(part) for part in problem["loc"]]
        # The discriminator's value and the names of union branches are not keys of the config.
        path = [keys[0]] if keys else ["config"]
        for key in keys[1:]:
            if re.fullmatch(r"[A-Za-z_]\w*|_target_|\d+", key) and key not in _BRANCHES:
                path.append(key)
        value = problem["input"]
        message = problem["msg"].removeprefix("Value error, ")
        message = message.removeprefix("Input ")
        if problem["type"] == "extra_forbidden":
            said.setdefault(".".join(path), []).append("there is no such key")
        elif problem["type"] == "value_error":
            said.setdefault(f"{'.'.join(path)}.{message}", [])
        elif isinstance(value, dict):
            said.setdefault(".".join(path), []).append(message)
        else:
            said.setdefault(f"{'.'.join(path)}={value}", []).append(message)
    return [
        f"{key}: {', or '.join(dict.fromkeys(messages))}" if messages else key
        for key, messages in said.items()
    ]


_BRANCHES = {"cifar10", "shapes", "folder", "int", "float", "str", "bool", "constrained", "auto"}


def plain(config: Config) -> dict[str, Any]:
    """The config as JSON has it: what metrics.json and checkpoints keep, to compare with."""
    return config.model_dump(mode="json", by_alias=True)
