"""The typed schema of a run's config, and the checks that YAML alone cannot make.

Hydra composes `conf/` into a tree of plain values; `validate` turns that tree into a frozen
`Config`, or reports every wrong key of it at once. Nothing here imports torch: a wrong value is
answered in a second.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)

from augcam.config.build import CONSTANT, refusals, unfit
from augcam.config.compose import opencv_constant
from augcam.config.model import ModelConfig, unknown_network
from augcam.errors import UserError, pydantic_message, shown

# What may differ when a run goes on: where and how it computes and what it shows, not what comes out.
FREE_TO_CHANGE = (
    "debug",
    "data.root",
    "data.num_workers",
    "data.eval_batch_size",
    "data.cache",
    "data.memory_gb",
    "data.masks",
    "data.download",
    "explain.",
    "logger.",
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


# Weights stay in float32: the metrics and the Grad-CAM of an epoch need them so.
Precision = Literal["auto", "32-true", "32", "16-mixed", "bf16-mixed"]


Layer = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Loader(_Strict):
    name: str
    batch_size: int = Field(ge=1)
    eval_batch_size: int = Field(ge=1)
    num_workers: Annotated[int, Field(ge=0)] | Auto
    # A number of images, or a share of each class.
    holdout: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] | Literal["test"]

    @property
    def label(self) -> str:
        """What pages call the data."""
        return self.name

    @property
    def training_images(self) -> int | None:
        """How many there are, those held out among them; None where only the data know."""
        return None


class CIFARConfig(_Loader):
    name: Literal["cifar10", "cifar100"]
    root: str = Field(min_length=1)

    @property
    def training_images(self) -> int:
        """CIFAR's own number."""
        return 50_000

    @model_validator(mode="after")
    def _leaves_training_images(self) -> "CIFARConfig":
        # Every class keeps one image.
        most = self.training_images - int(self.name.removeprefix("cifar"))
        if self.holdout != "test" and self.holdout > most:
            raise ValueError(f"holdout={self.holdout}: CIFAR has 50,000 training images, "
                             f"so 0 to {most:,} can be held out")  # fmt: skip
        return self


class ShapesConfig(_Loader):
    name: Literal["shapes"]
    seed: int = Field(ge=0)
    train_size: int = Field(ge=20)
    test_size: int = Field(ge=10)
    shortcut: Fraction
    orientation_pair: bool = False

    @property
    def training_images(self) -> int:
        """As many as are drawn."""
        return self.train_size

    @model_validator(mode="after")
    def _leaves_training_images(self) -> "ShapesConfig":
        if self.holdout != "test" and self.holdout >= self.train_size:
            raise ValueError(f"holdout={self.holdout}: only train_size={self.train_size} images "
                             "are made, so fewer than that can be held out")  # fmt: skip
        return self


class _Decoded(_Loader):
    """Images that are decoded once; beyond `memory_gb` they stay in a file in the folder `cache`."""

    root: str = Field(min_length=1)
    cache: str = Field(default_factory=lambda: os.environ.get("AUGCAM_CACHE", "~/.cache/augcam"))
    memory_gb: float = Field(1.0, ge=0)


class FolderConfig(_Decoded):
    name: Literal["folder"]
    image_size: int = Field(ge=8, le=1024)
    # How images without test/ are split. Earlier runs, whose configs lack the key, shuffled them.
    split: Literal["hash", "shuffle"] = "shuffle"
    masks: str | None = None


class TorchvisionConfig(_Decoded):
    name: Literal["torchvision"]
    dataset: str
    image_size: Annotated[int, Field(ge=8, le=1024)] | None
    download: bool

    @property
    def label(self) -> str:
        """The set's own name."""
        return self.dataset


class CustomDataConfig(_Loader):
    """A data set of a trusted package: `_target_` and its own arguments, beside the loader's."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(min_length=1)
    target: str = Field(alias="_target_", min_length=1)

    def arguments(self) -> dict[str, Any]:
        """The data set's keyword arguments, without `_target_`, `name` and the loader's keys."""
        return self.model_dump(exclude={"target", *_Loader.model_fields})


def _kind_of_data(data: Any) -> str:
    """Which model of the union reads a data config: its name's, or a custom one with `_target_`."""
    if isinstance(data, CustomDataConfig) or (isinstance(data, dict) and "_target_" in data):
        return "custom"
    name = data.get("name") if isinstance(data, dict) else getattr(data, "name", None)
    return "cifar" if name in ("cifar10", "cifar100") else str(name)


DataConfig = Annotated[
    Annotated[CIFARConfig, Tag("cifar")]
    | Annotated[ShapesConfig, Tag("shapes")]
    | Annotated[FolderConfig, Tag("folder")]
    | Annotated[TorchvisionConfig, Tag("torchvision")]
    | Annotated[CustomDataConfig, Tag("custom")],
    Discriminator(
        _kind_of_data,
        custom_error_type="unknown_data",
        custom_error_message="name: cifar10, cifar100, shapes, folder or torchvision is needed, or a "
        "_target_",
    ),
]


class LossConfig(_Strict):
    label_smoothing: float = Field(ge=0, lt=1)
    l1: float = Field(ge=0)
    jsd: float = Field(0.0, ge=0, allow_inf_nan=False)


class OptimConfig(BaseModel):
    """A torch optimizer: `_target_` and its own arguments, beside what AugCAM adds."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: str = Field(alias="_target_")
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    decay_norm_and_bias: bool = False
    # Of the last layer, which is new where the others are pretrained; None for `lr`.
    head_lr: Annotated[float, Field(gt=0)] | None = None

    @model_serializer(mode="wrap")
    def _as_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a `weight_decay` that was not given: some optimizers have none."""
        values: dict[str, Any] = dump(self)
        if "weight_decay" not in self.model_fields_set:
            values.pop("weight_decay", None)
        return values

    def arguments(self) -> dict[str, Any]:
        """The optimizer's keyword arguments, without `_target_` and AugCAM's own keys."""
        return self.model_dump(exclude={"target", "decay_norm_and_bias", "head_lr"})


class SchedulerConfig(BaseModel):
    """A torch scheduler: `_target_`, how often it steps, and its own arguments.

    An argument with the value `auto` stands for the length of the whole run, in optimizer steps or in
    epochs as `interval` has it, and MultiStepLR's `milestones` are shares of it, so that a shortened run
    keeps the schedule's shape.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    target: str = Field(alias="_target_")
    interval: Literal["step", "epoch"]

    @model_validator(mode="after")
    def _can_be_computed(self) -> "SchedulerConfig":
        """What torch would only notice in the middle of a run, dividing by zero or by nothing."""
        arguments, positive = self.arguments(), ("step_size", "T_0", "T_max", "total_iters")
        for name, value in arguments.items():
            if name in positive and value != "auto" and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}={shown(value)}: must be a whole number of at least 1")
            factor = name in ("div_factor", "final_div_factor", "gamma", "max_lr", "base_lr")
            if factor and not (isinstance(value, (int, float)) and value > 0):
                raise ValueError(f"{name}={shown(value)}: must be greater than 0")
            if name == "eta_min" and not (isinstance(value, (int, float)) and value >= 0):
                raise ValueError(f"{name}={shown(value)}: must be 0 or a learning rate")
        return self

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
    every_n_epochs: Annotated[int, Field(ge=1)] | Auto


class BetaConfig(_Strict):
    """The Beta(alpha, alpha) distribution that a mixture's weight is drawn from."""

    alpha: float = Field(gt=0, allow_inf_nan=False)


class MixConfig(_Strict):
    """What happens to a batch and its labels: MixUp, CutMix, or one of the two by a coin."""

    p: Fraction = 1.0
    mixup: BetaConfig | None = None
    cutmix: BetaConfig | None = None

    @property
    def name(self) -> str:
        """`none`, `mixup`, `cutmix` or `mixup_cutmix`."""
        kinds = {"mixup": self.mixup, "cutmix": self.cutmix}
        return "_".join(kind for kind, asked in kinds.items() if asked and self.p) or "none"


class PreviewConfig(_Strict):
    """The augmentation preview at the start of a run."""

    samples: int = Field(ge=0, le=32)
    draws: int = Field(ge=1, le=16)


class SweepConfig(_Strict):
    """The folder that the runs of a sweep share, and whether a failed one ends it."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: str | None
    dir: str
    fail_fast: bool = False


AUGMIX = "augcam.data.augment.AugMix"
TENSORBOARD = "pytorch_lightning.loggers.TensorBoardLogger"  # folders before 0.2 do not name it


class Config(_Strict):
    """A run, whole. `aug` stays a plain mapping: `augcam.data.augment` checks it."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: str = Field(min_length=1, max_length=500)
    aug_name: str
    seed: int = Field(ge=0, lt=2**32)
    debug: bool
    trust: tuple[str, ...] = ()
    sweep: SweepConfig
    data: DataConfig
    aug: dict[str, dict[str, Any] | None]
    aug_strength: Fraction = 1.0
    mix: MixConfig = MixConfig()
    model: ModelConfig
    loss: LossConfig
    optim: OptimConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    explain: ExplainConfig
    preview: PreviewConfig
    # By name, `_target_` and arguments each: what goes into Lightning's Trainer beside our own.
    logger: dict[str, dict[str, Any]] = {"tensorboard": {"_target_": TENSORBOARD}}
    callbacks: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _mixes_images_with_others(self) -> "Config":
        if self.mix.name != "none" and self.data.batch_size < 2:
            raise ValueError(f"data.batch_size={self.data.batch_size}: mix={self.mix.name} mixes "
                             "the images of a batch, so it needs two of them or more")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _has_views_to_compare(self) -> "Config":
        if not self.loss.jsd:
            return self
        asked = f"loss.jsd={self.loss.jsd:g}"
        if not any(one and one.get("_target_") == AUGMIX for one in self.aug.values()):
            raise ValueError(f"{asked}: compares views that AugMix makes, and aug={self.aug_name} has "
                             "none; aug=augmix, or +aug/op@aug.augmix=augmix")  # fmt: skip
        if self.mix.name != "none":
            raise ValueError(f"{asked} and mix={self.mix.name}: the views of an image must show the "
                             "same; mix=none or loss.jsd=0")  # fmt: skip
        return self

    @model_validator(mode="after")
    def _measures_what_callbacks_watch(self) -> "Config":
        """Lightning would only notice at the end of the first epoch."""
        if self.data.holdout and self.trainer.limit_val_batches != 0:
            return self
        off = "trainer.limit_val_batches=0" if self.data.holdout else "data.holdout=0"
        for name, node in self.callbacks.items():
            if str(watched := node.get("monitor")).startswith("val/"):
                raise ValueError(f"callbacks.{name}.monitor={watched}: with {off} nothing is "
                                 "validated; hold images out, or watch train/loss")  # fmt: skip
        return self


def validate(tree: DictConfig | Mapping[str, Any]) -> Config:
    """A composed config tree as a typed, frozen `Config`.

    A DictConfig is resolved first; in plain values a `${...}` is refused.

    Raises:
        UserError: one line for every key that is unknown, of the wrong type or out of range.
    """
    values: Any = tree
    if isinstance(tree, DictConfig):
        try:
            values = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise UserError(
                f"{error.full_key}: must be given; write {error.full_key}=..."
            ) from None
        except OmegaConfBaseException as error:
            raise UserError(shown(str(error).splitlines()[0], 200)) from None
    trusted = values.get("trust") or ()
    problems = unfit(values) + refusals(
        values, trusted=trusted if isinstance(trusted, list) else ()
    )
    problems += _impossible(values.get("aug"), "aug")
    if not problems and "aug" in values:
        data = values.get("data")
        of_cifar10 = isinstance(data, Mapping) and data.get("name") == "cifar10"
        values = {**values, "aug": _as_now(values["aug"], of_cifar10)}
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += [line for line in in_words(error) if line.split("=")[0] not in _keys(problems)]
    if problems or config is None:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return config


def _keys(problems: list[str]) -> set[str]:
    return {problem.partition("=")[0] for problem in problems}


def _as_now(node: Any, of_cifar10: bool) -> Any:
    """A pipeline as earlier versions wrote it, in the words of this one, for the same result.

    OpenCV's constants were `{_target_: hydra.utils.get_object, path: cv2...}`, and the mean colour of
    every data set was CIFAR-10's in numbers, which is still right for CIFAR-10 itself.
    """
    if isinstance(node, list):
        return [_as_now(part, of_cifar10) for part in node]
    if not isinstance(node, dict):
        return node
    if node.get("_target_") == CONSTANT:
        return opencv_constant(str(node.get("path")).removeprefix("cv2."))
    return {
        key: "mean"
        if key == "fill" and of_cifar10 and part == [125, 123, 114]
        else _as_now(part, of_cifar10)
        for key, part in node.items()
    }


def _impossible(node: Any, key: str) -> list[str]:
    """Numbers in a pipeline that no transform can be given, known without Albumentations' 5 s of import.

    A probability over 1, and what no image is large enough for: OpenCV works on some of it for ever.
    """
    if key.endswith(".p") and isinstance(node, (int, float)) and not 0 <= node <= 1:
        return [f"{key}={shown(node)}: a probability is needed, 0 to 1"]
    if isinstance(node, (int, float)) and 1e6 < abs(node) < math.inf:
        return [f"{key}={shown(node)}: 1,000,000 is the most that a transform can be given"]
    if not isinstance(node, (dict, list)):
        return []
    inside: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, dict) else enumerate(node)
    return [line for name, child in inside for line in _impossible(child, f"{key}.{name}")]


# The discriminator's value and the names of union branches are not keys of the config.
_BRANCHES = {
    "cifar", "shapes", "folder", "torchvision", "resnet", "library", "custom",
    "int", "float", "str", "bool", "constrained", "auto", "tuple",
}  # fmt: skip


def in_words(error: ValidationError) -> list[str]:
    """One line a key. A union reports each of its branches: they are joined with "or"."""
    lines: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        keys = [str(part) for part in problem["loc"]]
        path = [keys[0]] if keys else ["config"]
        for key in keys[1:]:
            if re.fullmatch(r"[A-Za-z_]\w*|_target_|\d+", key) and key not in _BRANCHES:
                path.append(key)
        value = problem["input"]
        message = pydantic_message(problem)
        name = shown(".".join(path))
        if problem["type"] == "extra_forbidden":
            lines.setdefault(name, []).append("there is no such key")
        elif problem["type"] == "union_tag_invalid" and path == ["model"]:
            lines.setdefault(unknown_network(problem["ctx"]["tag"]), [])
        elif problem["type"] == "value_error":
            lines.setdefault(f"{name}.{message}" if keys else message, [])
        elif problem["type"] == "missing":
            lines.setdefault(name, []).append("must be given")
        elif isinstance(value, dict):
            lines.setdefault(name, []).append(message)
        else:
            lines.setdefault(f"{name}={shown(value)}", []).append(message)
    return [
        f"{key}: {', or '.join(dict.fromkeys(messages))}" if messages else key
        for key, messages in lines.items()
    ]


def plain(config: Config) -> dict[str, Any]:
    """The config as JSON has it: what a run folder and checkpoints keep. Trust is not kept."""
    return config.model_dump(mode="json", by_alias=True, exclude={"trust"})
