"""The run's speed: time in training steps and their batches, and no other time."""

import time
from collections.abc import Sequence

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, Layout
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from torch.utils.tensorboard.summary import custom_scalars

from augcam.data.datasets.shapes import CLASSES
from augcam.data.loader import AugmentedBatches
from augcam.training.callbacks import history
from augcam.training.callbacks.checkpoints import AtomicCheckpoints
from augcam.training.callbacks.gradcam import GradCamPanels
from augcam.training.module import Classifier
from tests.training.conftest import tiny_run


class Clock:
    """A clock that stands still but where the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def __getattr__(self, name):
        return getattr(time, name)


@pytest.fixture
def takes(monkeypatch):
    """A function: from now on a call of `owner.name` takes so many seconds of the run's clock."""
    clock = Clock()
    monkeypatch.setattr(history, "time", clock)

    def slow(owner, name: str, seconds: float) -> None:
        really = vars(owner)[name]  # what it only inherits may be called for others, or not at all

        def slowed(*arguments, **options):
            clock.now += seconds
            return really(*arguments, **options)

        monkeypatch.setattr(owner, name, slowed)

    return slow


@pytest.mark.parametrize("overrides", [[], ["trainer.val_check_interval=1"]], ids=["", "mid-epoch"])
def test_checkpoints_validation_and_pictures_are_no_training_time(tmp_path, takes, overrides):
    takes(Classifier, "training_step", 1)
    takes(AugmentedBatches, "__getitem__", 1)
    for owner, name in (
        (AtomicCheckpoints, "save_checkpoint"),
        (Classifier, "validation_step"),
        (GradCamPanels, "on_validation_epoch_end"),
    ):
        takes(owner, name, 1000)
    result = tiny_run(tmp_path / "run", "explain.images=1", *overrides)
    # Ten images a step; one second for the batch, one for the step.
    assert result.metrics["train_images_per_second"] == pytest.approx(5.0)
    assert result.metrics["wall_seconds"] > 3000


@pytest.mark.parametrize("holdout", [20, 0])
def test_every_line_of_the_dashboard_is_there_and_has_a_chart_of_its_own(tmp_path, holdout):
    """TensorBoard has one colour a run: two lines of a run in one chart could not be told apart."""
    tiny_run(tmp_path / "run", f"data.holdout={holdout}")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    layout = Layout.FromString(events.Tensors(CONFIG_SUMMARY_TAG)[0].tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    scalars = set(events.Tags()["scalars"])
    for chart in charts:
        (series,) = chart.margin.series
        assert {series.value, series.lower, series.upper} <= scalars
    of_classes = {c.margin.series[0].value for c in charts if c.title in CLASSES}
    assert of_classes == {tag for tag in scalars if "/accuracy_class/" in tag}
    main = {chart.margin.series[0].value for chart in layout.category[0].chart}
    split = "val" if holdout else "train"
    assert main == {f"{split}/accuracy", f"{split}/loss"}


def drawn(charts: Sequence[Chart]) -> list[str]:
    """Titles of margin charts in the order in which TensorBoard 2.21 draws them.

    As `_insertItem` of its page's `tf-category-paginated-view` does it: a chart is two nodes, one for
    each kind of chart, and goes before the node that has its number.
    """
    nodes: list[str] = []
    for number, chart in enumerate(charts):
        nodes[number:number] = [f"multiline {chart.title}", f"margin {chart.title}"]
    return [node.removeprefix("margin ") for node in nodes if node.startswith("margin ")]


@pytest.mark.parametrize("validates", [True, False])
def test_the_dashboard_is_drawn_in_the_order_of_the_classes(validates):
    """It began with the last class, and with the loss: the last margin chart is drawn first."""
    written = custom_scalars(history.layout(CLASSES, validates)).value[0].tensor.string_val[0]
    main, *by_class = Layout.FromString(written).category
    assert [title.partition(":")[0] for title in drawn(main.chart)] == ["accuracy", "loss"]
    assert [drawn(category.chart) for category in by_class] == [list(CLASSES)] * validates


def test_a_short_epoch_is_logged_at_its_own_pace(tmp_path, recwarn):
    """Lightning warned in every job with fewer batches an epoch than `trainer.log_every_n_steps`."""
    tiny_run(tmp_path / "run", "trainer.limit_train_batches=0.5", "data.batch_size=5")
    assert not [w for w in recwarn if "log_every_n_steps" in str(w.message)]
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert len(events.Scalars("train/step_loss")) == 3  # the first of two batches, in three epochs
