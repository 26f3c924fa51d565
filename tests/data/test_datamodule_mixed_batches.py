"""Mixed batches on their way to the network: the same after a stop, and on any number of ranks."""

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from augcam.data.augment import mix
from augcam.data.augment.build import build_pipeline
from augcam.data.datamodule import ImageDataModule
from augcam.data.datasets.base import ImageSet
from augcam.data.loader import Batch
from augcam.data.normalize import normalize
from augcam.errors import UserError


class Noise:
    """24 training images of noise in three classes."""

    classes = ("a", "b", "c")
    mean, std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)

    def prepare(self) -> None:
        pass

    def fingerprint(self) -> str:
        return "noise"

    def train(self) -> ImageSet:
        images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
        return ImageSet(images, np.arange(24) % 3)

    test = train


def data_module(batch_size=4) -> ImageDataModule:
    return ImageDataModule(
        Noise(), build_pipeline({}, 1), batch_size=batch_size, eval_batch_size=6, num_workers=0,
        holdout=6, seed=1, mix=mix.build(1.0, 1.0, seed=1, p=0.8),
    )  # fmt: skip


class Recorder(pl.LightningModule):
    """Keeps the training batches as the network would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.training_batches: list[tuple[int, bytes, bytes]] = []
        self.validation_labels: list[torch.Tensor] = []

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        self.training_batches.append(
            (self.current_epoch, batch.images.numpy().tobytes(), batch.labels.numpy().tobytes())
        )
        assert batch.labels.shape == (len(batch.images), 3)
        assert torch.allclose(batch.labels.sum(dim=1), torch.ones(len(batch.images)))
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: Batch, number: int) -> None:
        self.validation_labels.append(batch.labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class StopAt(Callback):
    def __init__(self, step: int, path: str) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *rest) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True
            raise KeyboardInterrupt


def trained(tmp_path, callbacks=(), resume_from=None) -> Recorder:
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, callbacks=list(callbacks),
        default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        trainer.fit(recorder, data_module(), ckpt_path=resume_from, weights_only=True)
    return recorder


def test_a_stop_in_mid_epoch_changes_no_batch(tmp_path):
    whole = trained(tmp_path)
    assert len(whole.training_batches) == 12  # 18 images, four at a time, three epochs
    path = str(tmp_path / "stopped.ckpt")
    first = trained(tmp_path, [StopAt(6, path)])
    rest = trained(tmp_path, resume_from=path)
    assert first.training_batches[:6] == whole.training_batches[:6]
    assert rest.training_batches == whole.training_batches[6:]


def test_one_class_has_nothing_to_share_a_label_with(monkeypatch):
    module = data_module()
    monkeypatch.setattr(module.dataset, "classes", ("a",))
    with pytest.raises(UserError, match=r"mix: the data set has one class, a, .* mix=none"):
        module.prepare_data()


def test_validation_is_not_mixed(tmp_path):
    assert all(labels.ndim == 1 for labels in trained(tmp_path).validation_labels)


@pytest.mark.parametrize("number", range(4))
def test_ranks_share_the_batch_that_one_process_would_have(number):
    images = torch.from_numpy(Noise().train().images[:8])
    labels = torch.arange(8) % 3

    def stage(rank: int, world_size: int, gathered: dict[int, torch.Tensor]) -> Any:
        progress = SimpleNamespace(current=SimpleNamespace(ready=number))
        return SimpleNamespace(
            training=True, current_epoch=2, global_rank=rank, world_size=world_size,
            fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
            strategy=SimpleNamespace(all_gather=lambda part: gathered[part.ndim]),
        )  # fmt: skip

    def through(rank: int, world_size: int) -> Batch:
        data = data_module()
        # What the strategy of a real run would collect from the ranks, (ranks, images of each, ...).
        gathered = {
            part.ndim: torch.stack([part[r::world_size] for r in range(world_size)])
            for part in (images, labels)
        }
        data.trainer = stage(rank, world_size, gathered)
        mine = slice(rank, None, world_size)
        batch = Batch(images[mine], labels[mine], torch.arange(8)[mine])
        return data.on_after_batch_transfer(batch, 0)

    alone = through(0, 1)
    for rank in range(2):
        part = through(rank, 2)
        assert torch.equal(part.images, alone.images[rank::2])
        assert torch.equal(part.labels, alone.labels[rank::2])


def test_without_mixing_labels_stay_whole(tmp_path):
    data = data_module()
    data.mix = None
    data.trainer = None
    images = torch.from_numpy(Noise().train().images[:2])
    batch = data.on_after_batch_transfer(Batch(images, torch.tensor([0, 1]), torch.arange(2)), 0)
    assert batch.labels.tolist() == [0, 1]
    assert torch.equal(batch.images, normalize(images, Noise.mean, Noise.std))
