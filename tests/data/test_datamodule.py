"""Loaders: the same batches with any number of workers, after any resume, on any ranks."""

import multiprocessing
import os
import signal
from typing import Any, cast

import albumentations as A
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from albumentations.pytorch import ToTensorV2
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer
from torch import nn

from augcam.data.augment.build import build_pipeline
from augcam.data.datamodule import ImageDataModule
from augcam.data.datasets.base import ImageSet
from augcam.data.loader import AugmentedBatches, EpochLoader, EpochOrder
from augcam.errors import UserError
from tests.conftest import ROOT, compose
from tests.data.noise import AUG, Random


def module(workers=0, batch_size=4, holdout=8, seed=1, aug=AUG, size=40) -> ImageDataModule:
    return ImageDataModule(
        Random(size), build_pipeline(aug, seed), batch_size=batch_size, eval_batch_size=5,
        num_workers=workers, holdout=holdout, seed=seed,
    )  # fmt: skip


def seen(workers=0, batch_size=4, epochs=(0, 1), seed=1) -> dict[tuple[int, int], bytes]:
    """Every augmented image by (epoch, index)."""
    data = module(workers, batch_size, seed=seed)
    data.setup("fit")
    loader = data.train_dataloader()
    found = {}
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert batch.images.dtype == torch.uint8
            assert np.array_equal(batch.labels, data.train_set.labels[batch.index.numpy()])
            for image, index in zip(batch.images, batch.index.tolist(), strict=True):
                found[epoch, index] = image.numpy().tobytes()
    loader.close()
    return found


@pytest.fixture(scope="module")
def reference():
    return seen()


BY_CLASS = {"except": ["a", "c"]}

OPS = sorted(path.stem for path in (ROOT / "conf" / "aug" / "op").glob("*.yaml"))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("name", "keys"), [*((name, {}) for name in OPS), ("crop", BY_CLASS)])
def test_every_op_of_conf_is_the_same_with_any_workers_and_after_a_resume(name, keys):
    """0, 1 and 4 workers, and a loader that begins in the middle of epoch 1."""
    tree = compose(["data=shapes", "aug=none", f"+aug/op@aug.x={name}"])
    op: Any = OmegaConf.to_container(tree.aug.x, resolve=True)
    aug = {"x": op | keys}

    def loader(workers: int) -> EpochLoader:
        pipeline = build_pipeline(aug, 1, lambda: Random.mean, classes=lambda: ("a", "b", "c", "d"))
        images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
        batches = AugmentedBatches(ImageSet(images, np.arange(12) % 4), pipeline)
        return EpochLoader(batches, EpochOrder(12, 3, seed=1), workers)

    def images(loader: EpochLoader) -> list[bytes]:
        return [batch.images.numpy().tobytes() for batch in loader]

    epochs: dict[int, list[bytes]] = {}
    for workers in (0, 1, 4):
        one = loader(workers)
        epochs[workers] = []
        for epoch in (0, 1):
            one.sampler.set_epoch(epoch)
            epochs[workers] += images(one)
        one.close()
    assert epochs[0] == epochs[1] == epochs[4]
    assert epochs[0][:4] != epochs[0][4:]
    resumed = loader(0)
    resumed.load_state_dict({"epoch": 1, "batches": 2})
    resumed.sampler.set_epoch(1)
    assert images(resumed) == epochs[0][6:]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
class TestStreams:
    @pytest.mark.parametrize(("workers", "batch_size"), [(1, 4), (4, 4), (0, 8), (2, 16), (0, 1)])
    def test_workers_and_batch_size_change_nothing(self, reference, workers, batch_size):
        assert seen(workers, batch_size) == reference

    def test_the_order_of_epochs_changes_nothing(self, reference):
        assert seen(epochs=(1, 0)) == reference

    def test_epochs_and_seeds_differ(self, reference):
        first, second = ([v for (e, _), v in sorted(reference.items()) if e == n] for n in (0, 1))
        assert sum(a == b for a, b in zip(first, second, strict=True)) < 5
        assert sum(seen(seed=2).get(key) == value for key, value in reference.items()) < 5

    def test_the_source_is_left_alone(self):
        data = module()
        data.setup("fit")
        before = data.train_set.images[:].copy()
        list(data.train_dataloader())
        assert np.array_equal(data.train_set.images[:], before)


class TestAnyCompose:
    """From Python, a pipeline of Albumentations as people have it."""

    def data(self, workers: int = 0, seed: int = 1, compose=None) -> ImageDataModule:
        own = compose or A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.OneOf([A.Rotate(limit=30, p=1), A.GaussNoise(p=1)], p=0.8),
                A.SomeOf([A.VerticalFlip(p=1), A.Transpose(p=1), A.RandomGamma(p=1)], n=2, p=0.5),
            ],
            p=0.9,
            seed=7,
        )
        return ImageDataModule(
            Random(), pipeline=own, batch_size=4, eval_batch_size=5, num_workers=workers, holdout=8,
            seed=seed,
        )  # fmt: skip

    def images(self, *arguments, epochs=(0, 1)) -> dict[tuple[int, int], bytes]:
        data = self.data(*arguments)
        data.setup("fit")
        loader, result = data.train_dataloader(), {}
        for epoch in epochs:
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                for image, index in zip(batch.images, batch.index.tolist(), strict=True):
                    result[epoch, index] = image.numpy().tobytes()
        loader.close()
        return result

    @pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
    def test_its_stream_is_pure(self):
        reference = self.images()
        assert self.images(2) == reference
        assert self.images(0, epochs=(1, 0)) == reference
        other = self.images(0, 2)
        assert sum(other[sample] == reference[sample] for sample in reference.keys() & other) < 25
        assert len(set(reference.values())) > 50

    def test_normalize_and_to_tensor_come_by_themselves(self):
        ends = A.Compose([A.HorizontalFlip(), A.Normalize(), ToTensorV2()])
        with pytest.raises(UserError, match="Normalize and ToTensorV2 end every pipeline"):
            self.data(compose=ends).setup("fit")


class TestFingerprint:
    def test_a_checkpoint_of_other_images_is_refused(self):
        data = module()
        data.setup("fit")
        data.train_dataloader()
        state = data.state_dict()
        module().load_state_dict(state)
        with pytest.raises(UserError, match=r"images have changed since the checkpoint was made"):
            module(size=41).load_state_dict(state)

    def test_a_checkpoint_of_an_earlier_version_has_none(self):
        data = module(size=41)
        data.load_state_dict({"epoch": 1, "batches": 3})
        data.setup("fit")
        assert data.train_dataloader().state_dict() == {"epoch": 1, "batches": 3}
        module().load_state_dict({})


class TestModule:
    def test_splits_are_read_once_and_the_test_set_when_asked(self):
        data = module()
        dataset = cast(Random, data.dataset)
        for _ in range(2):
            data.prepare_data()
            data.setup("fit")
            data.setup("validate")
        assert dataset.reads == {"prepare": 1, "train": 1, "test": 0}
        assert (len(data.train_set), len(data.val_set)) == (32, 8)
        assert np.bincount(data.val_set.labels).tolist() == [2, 2, 2, 2]
        data.setup("test")
        assert dataset.reads["test"] == 1
        assert [len(batch.labels) for batch in data.test_dataloader()] == [5, 5, 3]

    def test_train_and_validation_are_the_source_without_overlap(self):
        data = module()
        data.setup("fit")
        parts = [
            {image.tobytes() for image in part.images[:]} for part in (data.train_set, data.val_set)
        ]
        assert not parts[0] & parts[1]
        assert parts[0] | parts[1] == {image.tobytes() for image in data.dataset.train().images[:]}

    def test_without_holdout_there_is_no_validation(self):
        data = module(holdout=0)
        data.setup("fit")
        assert (len(data.train_set), len(data.val_set)) == (40, 0)
        assert data.val_dataloader() == []

    def test_the_test_set_can_validate(self):
        data = module(holdout="test")
        data.setup("fit")
        assert len(data.train_set) == 40
        assert np.array_equal(data.val_set.images[:], data.dataset.test().images[:])

    def test_held_out_images_are_only_normalised(self):
        data = module()
        data.setup("fit")
        batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
        expected = (data.val_set.images[:5] / 255 - data.mean) / data.std
        assert np.allclose(batch.images.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.tolist() == data.val_set.labels[:5].tolist()
        assert batch.index.tolist() == [0, 1, 2, 3, 4]

    def test_a_holdout_too_large(self):
        with pytest.raises(UserError, match=r"holdout=40.*0 to 36"):
            module(holdout=40).setup("fit")

    def test_a_transform_that_does_not_fit(self):
        crop = {"_target_": "albumentations.RandomCrop", "height": 4, "width": 4}
        with pytest.raises(UserError, match=r"aug\.crop.*keep its"):
            module(aug={"crop": crop}).setup("fit")


class Linear(pl.LightningModule):
    """The smallest classifier, with a schedule: every kind of state is in its checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(8 * 8 * 3, 4)
        self.trained_on: list[tuple[int, list[int]]] = []

    def training_step(self, batch, batch_idx):
        self.trained_on.append((self.current_epoch, batch.index.tolist()))
        return nn.functional.cross_entropy(self.net(batch.images.flatten(1)), batch.labels)

    def validation_step(self, batch, batch_idx):
        self.log("val", self.net(batch.images.flatten(1)).mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Crash(Exception):  # noqa: N818
    pass


class SaveAndStop(Callback):
    """Save after a batch or at an epoch's end, then stop as a crash would."""

    def __init__(self, path, epoch: int, batch: int | None) -> None:
        self.path, self.epoch, self.batch = path, epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            trainer.save_checkpoint(self.path)
            raise Crash

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch and self.batch is None:
            trainer.save_checkpoint(self.path)
            raise Crash


def fit(data, *callbacks, checkpoint=None, **flags) -> Linear:
    model = Linear()
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks), **flags,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=checkpoint)
    return model


@pytest.mark.filterwarnings("ignore::Warning")
class TestResumeUnderLightning:
    """8 batches an epoch, 3 epochs; stopped and resumed, the weights are those of one run."""

    @pytest.mark.parametrize(
        ("flags", "epoch", "batch", "workers"),
        [
            ({}, 0, 2, 0),
            ({}, 1, 4, 0),
            ({}, 1, 7, 0),  # after the last batch, before the epoch's end
            ({}, 0, None, 0),  # None: at the epoch's end
            ({}, 1, None, 0),
            ({}, 1, 4, 2),
            ({}, 1, None, 2),
            ({"accumulate_grad_batches": 2}, 1, 5, 0),
            ({"accumulate_grad_batches": 3}, 1, None, 2),
            ({"limit_train_batches": 6}, 1, 2, 2),
            ({"limit_train_batches": 6}, 0, None, 0),
            # By steps, from an epoch's end, Lightning 2.6.6 loses an epoch with any loader.
            ({"max_steps": 20}, 1, 4, 0),
        ],
    )
    def test_bit_identical(self, tmp_path, flags, epoch, batch, workers):
        whole = fit(module(workers), **flags)
        path = tmp_path / "stopped.ckpt"
        with pytest.raises(Crash):
            fit(module(workers), SaveAndStop(path, epoch, batch), **flags)
        resumed = fit(module(workers), checkpoint=path, **flags)
        assert resumed.trained_on == whole.trained_on[-len(resumed.trained_on) :]
        done = (epoch + (batch is None)) * flags.get("limit_train_batches", 8)
        done += 0 if batch is None else batch + 1
        assert len(resumed.trained_on) == len(whole.trained_on) - done
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name

    def test_epochs_differ_and_workers_do_not_matter(self):
        alone, helped = fit(module(0)), fit(module(2))
        assert alone.trained_on == helped.trained_on
        orders = [
            [i for e, batch in alone.trained_on if e == epoch for i in batch] for epoch in range(3)
        ]
        assert all(sorted(order) == list(range(32)) for order in orders)
        assert orders[0] != orders[1] != orders[2]
        assert torch.equal(alone.net.weight, helped.net.weight)

    def test_overfit_batches_trains_on_the_same_images(self):
        model = fit(module(), overfit_batches=2)
        per_epoch = [[batch for e, batch in model.trained_on if e == n] for n in range(3)]
        assert len(per_epoch[0]) == 2
        assert per_epoch[0] == per_epoch[1] == per_epoch[2]

    def test_without_holdout_fit_runs_no_validation(self):
        assert len(fit(module(holdout=0)).trained_on) == 30

    def test_workers_end_with_the_fit(self):
        before = set(multiprocessing.active_children())
        fit(module(2))
        assert not set(multiprocessing.active_children()) - before


class Write(Callback):
    """What a rank trained on, and its weights, into a file of its own."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        found = {"on": pl_module.trained_on, "weights": pl_module.net.weight.detach()}
        torch.save(found, self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.filterwarnings("ignore::Warning")
def test_two_processes_train_on_what_one_would(tmp_path):
    fit(module(batch_size=4), Write(tmp_path), devices=2, strategy="ddp_fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    alone = fit(module(batch_size=8))
    assert len(ranks[0]["on"]) == len(ranks[1]["on"]) == len(alone.trained_on) == 12
    for a, b, (epoch, whole) in zip(ranks[0]["on"], ranks[1]["on"], alone.trained_on, strict=True):
        assert a[0] == b[0] == epoch
        assert sorted(a[1] + b[1]) == sorted(whole)
    assert torch.equal(ranks[0]["weights"], ranks[1]["weights"])
    torch.testing.assert_close(ranks[0]["weights"], alone.net.weight, rtol=1e-5, atol=1e-6)


def test_ctrl_c_leaves_the_workers_to_the_main_process():
    """A terminal sends SIGINT to every process of the group; workers go on until they are ended."""
    before = set(multiprocessing.active_children())
    data = module(workers=2)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = iter(loader)
    next(batches), next(batches)  # one of each worker
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 6
    assert all(worker.is_alive() for worker in workers)
    del batches
    data.teardown("fit")
    assert not any(worker.is_alive() for worker in workers)
