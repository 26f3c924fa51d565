"""What is measured on held-out images: one entry a metric, which training, tables and report read.

To add a metric, add an entry. It is then computed on validation and test, stands in TensorBoard as
`val/NAME`, in metrics.json under `val` and `test`, in the final table, in HPARAMS, in runs.csv and on
the report's page.
Nothing here imports torch until a metric is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Looking whether labels are in range makes the host wait for the device at every step.
UNCHECKED: dict[str, Any] = {"validate_args": False}


@dataclass(frozen=True)
class Metric:
    """A number that says how well a network does on a set of images.

    Attributes:
        name: its key in metrics.json and the end of its tag.
        title: its name in tables.
        higher_is_better: which direction is an improvement; the report says it.
        format: of `str.format`, for one value.
        make: number of classes to the TorchMetrics metric, which is updated with probabilities
            (B, C) and labels (B,); None for the loss, which comes from the logits.
        about: what it is, for a table's caption, where the title does not say it.
        least_classes: with fewer it says nothing, and is left out.
    """

    name: str
    title: str
    higher_is_better: bool
    format: str
    make: Callable[[int], Any] | None = None
    about: str = ""
    least_classes: int = 2

    def text(self, value: float | None) -> str:
        """The value as tables show it; `-` for one that was not measured or is not a number."""
        return "-" if value is None or value != value else self.format.format(value)


def _accuracy(num_classes: int) -> Any:
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(num_classes, average="micro", **UNCHECKED)


def _top5(num_classes: int) -> Any:
    """Share of images whose class is among the five most probable."""
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(num_classes, top_k=5, average="micro", **UNCHECKED)


def _ece(num_classes: int) -> Any:
    """Expected calibration error in 15 bins (Guo et al., arXiv 1706.04599)."""
    from torchmetrics.classification import MulticlassCalibrationError

    return MulticlassCalibrationError(num_classes, n_bins=15, **UNCHECKED)


METRICS = [
    Metric("accuracy", "accuracy", True, "{:.2%}", _accuracy),
    Metric("top5", "top5", True, "{:.2%}", _top5, "the class is among the five likeliest", 6),
    Metric("loss", "loss", False, "{:.4f}"),
    Metric(
        "ece", "ECE", False, "{:.4f}", _ece,
        "expected calibration error, how far the stated confidence is from the share that is right, "
        "in 15 bins; 0 where they agree",
    ),
]  # fmt: skip


def metrics_for(classes: int) -> list[Metric]:
    """The metrics that say something of so many classes."""
    return [metric for metric in METRICS if classes >= metric.least_classes]
