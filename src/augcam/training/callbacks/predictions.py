"""One run, from a config to metrics.json: build the parts, fit, test, write down what came out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer


class TestPredictions(Callback):
    """Keeps what the network said of each test image, so that runs can be compared image by image.

    The file has `label` and `predicted`, uint16 (N,), and `confidence`, float16 (N,), in the test
    set's order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: list[torch.Tensor] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _images, labels, index = batch
        confidence, predicted = outputs.softmax(dim=1).max(dim=1)
        columns = [part.cpu().double() for part in (index, labels, predicted, confidence)]
        self._seen.append(torch.stack(columns, dim=1))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        rows = torch.cat(self._seen)
        self._seen.clear()
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, rows)
            rows = torch.cat(gathered)
        if not trainer.is_global_zero:
            return
        rows = rows[rows[:, 0].argsort()]
        # Written under another name first: a reader never sees half of it.
        beside = self.path.with_name(f".{self.path.name}")
        with beside.open("wb") as file:
            np.savez_compressed(
                file,
                label=rows[:, 1].numpy().astype(np.uint16),
                predicted=rows[:, 2].numpy().astype(np.uint16),
                confidence=rows[:, 3].numpy().astype(np.float16),
            )
        beside.replace(self.path)
