"""What the network predicts for each test image, kept beside the numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer

from augcam.atomic import atomic_file


class TestPredictions(Callback):
    """Keeps the network's prediction for each test image, so that runs can be compared image by image.

    The file has `label` and `predicted`, uint16 (N,), and `confidence`, float16 (N,), in the test
    set's order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[torch.Tensor] = []

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
        self._rows.append(torch.stack(columns, dim=1))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: pl.LightningModule) -> None:
        rows = torch.cat(self._rows)
        self._rows.clear()
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, rows)
            rows = torch.cat(gathered)
        if not trainer.is_global_zero:
            return
        rows = rows[rows[:, 0].argsort()]
        with atomic_file(self.path) as file:
            np.savez_compressed(
                file,
                label=rows[:, 1].numpy().astype(np.uint16),
                predicted=rows[:, 2].numpy().astype(np.uint16),
                confidence=rows[:, 3].numpy().astype(np.float16),
            )
