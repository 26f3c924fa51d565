"""What is kept of the test set: in its order, whatever order it was tested in."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from augcam.training.callbacks.predictions import TestPredictions as Predictions

LIGHTNING: Any = None


def test_rows_stand_in_the_order_of_the_test_set(tmp_path):
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=True)
    callback = Predictions(tmp_path / "kept.npz")
    probabilities = torch.tensor([[0.1, 0.9], [0.75, 0.25], [0.5, 0.5001], [0.2, 0.8]])
    labels, order = torch.tensor([1, 1, 0, 1]), torch.tensor([2, 0, 3, 1])
    for part in (slice(0, 3), slice(3, 4)):
        batch = (LIGHTNING, labels[order][part], order[part])
        outputs = probabilities.log()[order][part]
        callback.on_test_batch_end(trainer, LIGHTNING, outputs, batch, 0)
    callback.on_test_epoch_end(trainer, LIGHTNING)
    with np.load(tmp_path / "kept.npz") as kept:
        assert kept["label"].tolist() == [1, 1, 0, 1]
        assert kept["predicted"].tolist() == [1, 0, 1, 1]
        np.testing.assert_allclose(kept["confidence"], [0.9, 0.75, 0.5, 0.8], atol=1e-3)
        assert {name: kept[name].dtype.name for name in kept.files} == {
            "label": "uint16", "predicted": "uint16", "confidence": "float16",
        }  # fmt: skip


def test_other_ranks_than_the_first_write_nothing(tmp_path):
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=False)
    callback = Predictions(tmp_path / "kept.npz")
    batch = (LIGHTNING, torch.tensor([0]), torch.tensor([0]))
    callback.on_test_batch_end(trainer, LIGHTNING, torch.zeros(1, 2), batch, 0)
    callback.on_test_epoch_end(trainer, LIGHTNING)
    assert not list(tmp_path.iterdir())
