"""One run folder, read and checked: whatever is in its files, a run comes out or the reason why not.

A folder may have been cut short, edited, or copied in part. Nothing in it is taken on trust: what is
used of `metrics.json`, `test_predictions.npz` and `evaluation.*` is checked for type, size and range,
and for agreeing with the rest; the first thing that is wrong is named in one line.
"""

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.stats import rankdata

from augcam.errors import UserError, first_line, pydantic_message
from augcam.explain import cam
from augcam.metrics import METRICS
from augcam.runs.run_folder import RunFolder

# Far above what a run of 100,000 test images and 1,000 classes writes: a larger file is none of ours.
LARGEST_JSON = 200_000_000
LARGEST_ARRAYS = 8_000_000_000

# What two evaluations must share for their maps and robustness to be compared.
EVALUATED_ALIKE = ("checkpoint", "seed", "images", "layer", "method")

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Checked(BaseModel):
    """Keys may be added to a file; those named here are of their type, without conversion."""

    model_config = ConfigDict(strict=True, extra="allow")


class SplitResult(_Checked):
    """`val` or `test` of metrics.json."""

    accuracy: Share
    accuracy_per_class: dict[str, float | None] = {}
    confusion: list[list[Count]] = []

    @model_validator(mode="after")
    def _measures_are_numbers(self) -> "SplitResult":
        for metric in METRICS:
            value = getattr(self, metric.name, None)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise ValueError(f"{metric.name}: a number is needed")
        return self


class TestResult(SplitResult):
    """`test` of metrics.json: what no report can do without."""

    ece: float | None
    confusion: list[list[Count]]


class Metrics(_Checked):
    """What a report uses of metrics.json."""

    classes: Annotated[list[str], Field(min_length=1)]
    val: SplitResult | None = None
    test: TestResult | None = None
    history: list[dict[str, float | None]] = []
    environment: dict[str, Any] = {}
    epochs: Count | None = None
    params: Count | None = None
    wall_seconds: Seconds | None = None
    train_images_per_second: Finite | None = None
    aug: str | None = None
    data: str | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "Metrics":
        names = set(self.classes)
        if len(names) < len(self.classes):
            raise ValueError("classes: a name is there twice")
        for split in ("val", "test"):
            result = getattr(self, split)
            if result is None:
                continue
            rows = result.confusion
            if rows and {len(rows), *map(len, rows)} != {len(names)}:
                raise ValueError(f"{split}.confusion: not {len(names)} rows and columns")
            if result.accuracy_per_class and set(result.accuracy_per_class) != names:
                raise ValueError(f"{split}.accuracy_per_class: not of the classes that it names")
        if any(row.get("epoch") is None for row in self.history):
            raise ValueError("history: a row has no epoch")
        return self


class Interval(_Checked):
    """A mean over images and its 95% interval; None where there was nothing to measure."""

    mean: float | None
    low: float | None = None
    high: float | None = None


class MapMeasures(_Checked):
    """The measures of maps; `excess` over maps that know nothing: by map, then by measure."""

    insertion: Interval | None = None
    deletion: Interval | None = None
    concentration: Interval | None = None
    excess: dict[str, dict[str, Interval]] = {}


class OfficialErrors(_Checked):
    """`cifar10c` of evaluation.json: accuracy on CIFAR-10-C; which of its files are not official."""

    corruptions: Annotated[
        dict[str, Annotated[list[Share], Field(min_length=1)]], Field(min_length=1)
    ]
    other_files: list[str] = []


class Evaluation(_Checked):
    """What a report uses of evaluation.json."""

    checkpoint: str
    seed: int
    images: Annotated[int, Field(ge=1)]
    layer: str
    method: str
    accuracy: Share
    ece: Finite | None = None
    corruptions: dict[str, Annotated[list[Share], Field(min_length=1)]]
    cifar10c: OfficialErrors | None = None
    maps: MapMeasures = MapMeasures()
    seconds: Seconds | None = None
    degenerate: Count = 0
    asked: dict[str, Any] = {}


class ClassVerdict(_Checked):
    """A class in audit.json."""

    verdict: Literal["no_sign", "look", "context", "shortcut", "undecided"]


class Audit(_Checked):
    """What a report uses of audit.json."""

    classes: dict[str, ClassVerdict]


@dataclass(frozen=True)
class Predictions:
    """What a network predicted of each test image, in the test set's order.

    Attributes:
        label, predicted: uint16 (N,), class indices.
        confidence: float16 (N,), probability of the predicted class.
    """

    label: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @cached_property
    def correct(self) -> np.ndarray:
        """bool (N,)."""
        return self.predicted == self.label


@dataclass(frozen=True)
class Maps:
    """Grad-CAM maps and probabilities of the evaluated test images.

    Attributes:
        index: int32 (n,), positions in the test set, ascending. label: uint16 (n,).
        probabilities: float16 (n, C).
        map_true: float32 (n, h, w), raw and signed, of the true class.
    """

    index: np.ndarray
    label: np.ndarray
    probabilities: np.ndarray
    map_true: np.ndarray

    @cached_property
    def usable(self) -> np.ndarray:
        """bool (n,): the true class's map says something (`augcam.explain.cam.map_status`)."""
        usable: np.ndarray = cam.map_status(torch.from_numpy(self.map_true)).numpy() == 0
        return usable

    @cached_property
    def heat(self) -> np.ndarray:
        """The true class's heat maps, cell by cell: float64 (n, h * w) in 0..1; zero if not usable."""
        raw = torch.from_numpy(self.map_true).double()
        size = (raw.shape[1], raw.shape[2])
        return cam.heatmap(raw, cam.map_status(raw), size).flatten(1).numpy()

    @cached_property
    def ranks(self) -> np.ndarray:
        """Ranks of each map's cells in `heat`, ties averaged: float64 (n, h * w)."""
        return rankdata(self.heat, axis=1)


def checked(model: type[BaseModel], file: Path, content: Any) -> None:
    """Check what a JSON file holds.

    Raises:
        UserError: the first key that is wrong, and how.
    """
    try:
        model.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = pydantic_message(problem)
        value = problem["input"]
        given = f"={value!r}"[:60] if isinstance(value, (int, float, str, type(None))) else ""
        if problem["type"] == "missing":
            raise UserError(f"{file.name} lacks {where}") from None
        raise UserError(f"{file.name}: {where}{given}{': ' if where else ''}{message}") from None


def read_metrics(folder: RunFolder) -> dict[str, Any]:
    """metrics.json; {} where there is none (yet).

    Raises:
        UserError: it is damaged, or disagrees with itself.
    """
    file = folder.metrics_file
    if file.is_file() and file.stat().st_size > LARGEST_JSON:
        raise UserError(f"{file.name} has {file.stat().st_size:,} bytes")
    metrics = folder.metrics()
    if metrics is None:
        return {}
    checked(Metrics, file, metrics)
    return metrics


def not_finite(metrics: Mapping[str, Any]) -> str:
    """Where a run's numbers stopped being finite; "" where they are. Such a run has no place in a rank.

    metrics.json has null for NaN and infinity.
    """
    for split in ("test", "val"):
        result = metrics.get(split) or {}
        for key in ("loss", "ece"):
            if key in result and not _is_finite(result[key]):
                return f"{split} {key}"
    for row in metrics.get("history") or []:
        for key in ("train/loss", "val/loss"):
            if key in row and not _is_finite(row[key]):
                return f"{key} of epoch {row.get('epoch'):g}"
    return ""


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it is missing, too large, or not JSON.
    """
    if not file.is_file():
        raise UserError(f"{file.name} is missing")
    if file.stat().st_size > LARGEST_JSON:
        raise UserError(f"{file.name} has {file.stat().st_size:,} bytes")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file.name}: {first_line(error)}") from None


def _arrays(file: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of an .npz; nothing in it is executed, and nothing huge is unpacked.

    Raises:
        UserError: it is missing, damaged or too large, or one of `names` is not in it.
    """
    if not file.is_file():
        raise UserError(f"{file.name} is missing")
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > LARGEST_ARRAYS:
                raise UserError(f"{file.name} unpacks to {size:,} bytes")
        with np.load(file, allow_pickle=False) as arrays:
            read = {name: arrays[name] for name in names}
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{file.name}: {error.args[0]}") from None
    except Exception as error:  # zipfile, zlib, struct, tokenize: each has its own way to say it
        raise UserError(f"{file.name}: {first_line(error)}") from None
    lengths = {len(array) if array.ndim else 0 for array in read.values()}
    if len(lengths) > 1 or 0 in lengths:
        raise UserError(f"{file.name} has columns of {sorted(lengths)} rows")
    return read


def _check_array(
    file: Path, name: str, array: np.ndarray, kinds: str, shape: tuple[int | None, ...]
) -> None:
    """Raises a UserError where an array has another type or shape; None is any size."""
    right = len(shape) == array.ndim and all(
        wanted in (None, has) for wanted, has in zip(shape, array.shape, strict=False)
    )
    if array.dtype.kind not in kinds or not right:
        raise UserError(f"{file.name}: {name} is {array.dtype} {array.shape}")


def read_predictions(folder: RunFolder, metrics: Mapping[str, Any]) -> Predictions:
    """test_predictions.npz.

    Raises:
        UserError: it is missing, or not what train.py writes.
    """
    file, classes = folder.predictions_file, len(metrics["classes"])
    read = _arrays(file, ("label", "predicted", "confidence"))
    for name, kinds in (("label", "iu"), ("predicted", "iu"), ("confidence", "f")):
        _check_array(file, name, read[name], kinds, (None,))
    for name in ("label", "predicted"):
        if read[name].min() < 0 or read[name].max() >= classes:
            raise UserError(f"{file.name} names more than {classes} classes")
    if not np.isfinite(read["confidence"]).all():
        raise UserError(f"{file.name}: confidence is not finite")
    counts = np.bincount(read["label"].astype(np.int64), minlength=classes)
    if counts.tolist() != [sum(row) for row in metrics["test"]["confusion"]]:
        raise UserError(f"{file.name} has other labels than metrics.json counts")
    return Predictions(**read)


def read_audit(folder: RunFolder, classes: Sequence[str]) -> dict[str, str] | None:
    """The verdict on each class in audit.json; None where the run was not audited.

    Raises:
        UserError: it is damaged, or of other classes.
    """
    file = folder.audit_file
    if not file.exists():
        return None
    read = _json(file)
    checked(Audit, file, read)
    verdicts = {name: one["verdict"] for name, one in read["classes"].items()}
    if set(verdicts) != set(classes):
        raise UserError(f"{file.name} is of other classes than the run")
    return verdicts


def read_evaluation(
    folder: RunFolder, predictions: Predictions, classes: int
) -> tuple[dict[str, Any], Maps] | None:
    """evaluation.json and evaluation.npz; None where the run was not evaluated.

    Its images are places in the whole test set. A run that was itself tested on the first of them
    alone (`trainer.limit_test_batches`) can be evaluated on all.

    Raises:
        UserError: a part is missing or damaged, or they do not belong to this run.
    """
    json_file, npz_file = folder.evaluation_file, folder.evaluation_arrays
    if not json_file.exists() and not npz_file.exists():
        return None
    evaluation = _json(json_file)
    checked(Evaluation, json_file, evaluation)
    read = _arrays(npz_file, tuple(Maps.__dataclass_fields__))
    n = evaluation["images"]
    if len(read["index"]) != n:
        raise UserError(f"evaluation.npz has {len(read['index'])} images, not {n}")
    size = read["map_true"].shape[1:]
    for name, kinds, shape in (
        ("index", "iu", (n,)), ("label", "iu", (n,)), ("probabilities", "f", (n, classes)),
        ("map_true", "f", (n, None, None)),
    ):  # fmt: skip
        _check_array(npz_file, name, read[name], kinds, shape)
    if 0 in size:
        raise UserError("evaluation.npz: its maps have no cells")
    if not np.isfinite(read["probabilities"]).all():
        raise UserError("evaluation.npz: probabilities are not finite")
    index = read["index"].astype(np.int64)
    if index[0] < 0 or (np.diff(index) <= 0).any():
        raise UserError("evaluation.npz: index does not ascend")
    if read["label"].min() < 0 or read["label"].max() >= classes:
        raise UserError(f"evaluation.npz names more than {classes} classes")
    tested = index < len(predictions.label)
    if (predictions.label[index[tested]] != read["label"][tested]).any():
        raise UserError("its labels are not those of the test set")
    return evaluation, Maps(**read)


def is_search(folder: RunFolder) -> bool:
    """Whether a sweeper that searches, as Optuna does, chose the run's config by validation.

    The scores of such runs are a search's: its best one is chosen, not measured.
    """
    file = folder.hydra_file
    try:
        if not file.is_file() or file.stat().st_size > 1_000_000:
            return False
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        read = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
        sweeper = read["hydra"]["runtime"]["choices"]["hydra/sweeper"]
        return read["hydra"]["mode"] == "MULTIRUN" and sweeper not in (None, "basic")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return False
