"""What a run leaves for TensorBoard's HPARAMS table, read as TensorBoard itself reads it."""

from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from augcam.config.schema import validate
from augcam.metrics import METRICS
from augcam.training.results import log_results
from tests.conftest import compose


@pytest.mark.parametrize("without", [None, "val"])
def test_a_sweep_is_one_table_with_a_row_a_run_and_every_column_filled(tmp_path, without):
    """Each report added a copy of its runs with other columns: jobs were there twice, cells empty."""
    accuracy = {}
    for aug, optim in (("none", "sgd"), ("flip", "adamw")):
        for seed in (1, 2):
            overrides = ["data=shapes", f"aug={aug}", f"seed={seed}", f"optim={optim}", "name=x"]
            folder = tmp_path / f"aug={aug},seed={seed}"
            accuracy[aug, seed] = 0.1 * seed + (aug == "flip") / 2
            split = {metric.name: 0.5 for metric in METRICS} | {"accuracy": accuracy[aug, seed]}
            metrics: dict[str, Any] = {"test": split, "val": split}
            if without:
                metrics[without] = None
            logger = TensorBoardLogger(tmp_path, folder.name, "", default_hp_metric=False)
            log_results(validate(compose(overrides)), None, pl.Trainer(logger=logger), metrics)
            logger.finalize("success")
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    backend = Context(TBContext(data_provider=provider))
    experiment = get_experiment.Handler(
        RequestContext(), backend, "", api_pb2.GetExperimentRequest()
    ).run()
    names = [info.name.tag for info in experiment.metric_infos]
    both = [f"final/{split}_{metric.name}" for metric in METRICS for split in ("test", "val")]
    assert sorted(names) == sorted(both)
    columns = [info.name for info in experiment.hparam_infos]
    assert sorted(columns) == ["aug", "lr", "model", "seed"]
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING],
        col_params=[
            *(api_pb2.ColParams(hparam=name) for name in columns),
            *(api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos),
        ],
    )
    listed = list_session_groups.Handler(RequestContext(), backend, "", request).run()
    shown = {}
    for group in listed.session_groups:
        (session,) = group.sessions
        values = {value.name.tag: value.value for value in session.metric_values}
        assert set(values) == set(names)
        assert set(group.hparams) == set(columns)
        key = group.hparams["aug"].string_value, group.hparams["seed"].number_value
        shown[key] = values["final/test_accuracy"]
    assert shown == pytest.approx(accuracy)
