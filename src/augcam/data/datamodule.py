"""The LightningDataModule: hold-out split, loaders that can resume anywhere, and the fixed tail.

An epoch's order is a pure function of (seed, epoch) and a sample's augmentation of (seed, epoch,
index): a run that is resumed, or that has another number of workers, sees the same batches.
"""

import signal
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from augcam.data.augment import Pipeline, tail
from augcam.data.sources import ImageSet, Source, stratified_holdout
from augcam.errors import UserError


class Batch(NamedTuple):
    """images: uint8 (B, H, W, 3) from a loader, float32 (B, 3, H, W), normalised, in a step.
    labels: int64 (B,). index: int64 (B,), each image's number in its set."""

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # a tuple has a method of that name

    def __reduce__(self) -> tuple[Any, ...]:
        # From a worker as arrays, whose bytes go through the pipe. A tensor is sent as a file
        # descriptor, for which the receiver waits until a thread of the busy worker gets its turn.
        return _from_arrays, tuple(part.cpu().numpy() for part in self)


class ImageDataModule(pl.LightningDataModule):
    """A source's images as batches: augmented for training, untouched for validation and test.

    Validation images are a seeded, stratified part of the training images. The test set is read
    in `setup("test")` and not before, unless it is what validates.

    Under several processes each rank gets its share, without Lightning's DistributedSampler: of
    every global batch of `batch_size` x world size images in training, of the whole set in
    validation and test. No evaluation image is seen twice, so the number of batches may differ by
    one between ranks, and metrics must sync at the epoch's end, not at each step.

    Args:
        source: where the images come from.
        pipeline: the random part of the augmentation.
        batch_size: images in a training batch, per process. The last, partial batch of an epoch is
            left out (BatchNorm cannot train on a batch of one); which images that hits changes
            with every epoch.
        eval_batch_size: images in a validation or test batch, per process.
        num_workers: loader processes for training; 0 augments in the main process. Evaluation
            batches are slices of an array and need none.
        holdout: training images kept back for validation; 0 turns validation off; "test" validates
            on the test set: then the best epoch is picked on it.
        seed: the run's seed.

    Attributes:
        classes, mean, std: the source's.
        train_set, val_set: after `setup("fit")`. test_set: after `setup("test")`. Each is an
            `ImageSet`; a batch's `index` counts within it.
    """

    train_set: ImageSet
    val_set: ImageSet
    test_set: ImageSet

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        *,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        holdout: int | Literal["test"],
        seed: int,
    ) -> None:
        super().__init__()
        self.source = source
        self.pipeline = pipeline
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.holdout = holdout
        self.seed = seed
        self._prepared = False
        self._train_loader: EpochLoader | None = None
        self._resume_at: dict[str, int] = {}
        self._scaling: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.source.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.source.std

    def prepare_data(self) -> None:
        """Download or verify the source. Raises UserError where it cannot be used."""
        if not self._prepared:
            self.source.prepare()
            self._prepared = True

    def setup(self, stage: str) -> None:
        """Read, once, the training images for "fit" and "validate", the test images for "test".

        Raises:
            UserError: the data cannot be read, the hold-out is too large, or a transform does not
                fit the images.
        """
        if stage in ("fit", "validate") and not hasattr(self, "train_set"):
            images = self.source.train()
            if self.holdout == "test":
                self.train_set, self.val_set = images, self.source.test()
            elif self.holdout:
                train, val = stratified_holdout(images.labels, self.holdout, self.seed)
                self.train_set, self.val_set = images.subset(train), images.subset(val)
            else:
                self.train_set, self.val_set = images, images.subset(np.arange(0))
            self.pipeline.check(self.train_set.images[0])
        if stage == "test" and not hasattr(self, "test_set"):
            self.test_set = self.source.test()

    def teardown(self, stage: str) -> None:
        """Let the training workers go when the fit is over."""
        if stage == "fit" and self._train_loader is not None:
            self._train_loader.close()
            self._train_loader = None

    def train_dataloader(self) -> "EpochLoader":
        rank, world_size = self._place()
        overfits = getattr(self.trainer, "overfit_batches", 0) > 0  # then no two epochs differ
        order = EpochOrder(
            len(self.train_set), self.batch_size, self.seed, rank, world_size, shuffle=not overfits
        )
        self._train_loader = EpochLoader(
            AugmentedBatches(self.train_set, self.pipeline), order, self.num_workers
        )
        if self._resume_at:
            self._train_loader.load_state_dict(self._resume_at)
            self._resume_at = {}
        return self._train_loader

    def state_dict(self) -> dict[str, int]:
        """The training loader's place, kept in the checkpoint.

        Lightning 2.6 keeps it too, but forgets to restore it where a scheduler has asked for
        `estimated_stepping_batches`: by then the loader exists.
        """
        return self._train_loader.state_dict() if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next training loader begin where the checkpoint was written."""
        self._resume_at = state_dict

    def val_dataloader(self) -> "EvalLoader | list[Any]":
        if not self.holdout:
            return []  # Lightning then runs no validation
        return EvalLoader(self.val_set, self.eval_batch_size, *self._place())

    def test_dataloader(self) -> "EvalLoader":
        return EvalLoader(self.test_set, self.eval_batch_size, *self._place())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalize and ToTensorV2, once for the batch, where the network is."""
        if batch.images.dtype != torch.uint8:  # Lightning's example arrays and the like
            return batch
        device = batch.images.device
        if self._scaling is None or self._scaling[0].device != device:
            # Kept on the device: a copy at every step would make the host wait.
            self._scaling = (
                torch.tensor(self.mean, device=device),
                torch.tensor(self.std, device=device),
            )
        return batch._replace(images=tail(batch.images, *self._scaling))

    def _place(self) -> tuple[int, int]:
        """(rank, number of ranks) of this process."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class EpochOrder:
    """Which images a rank sees in which batch of an epoch: a pure function of (seed, epoch).

    Batch i of an epoch is, over all ranks together, the i-th run of batch_size x world_size images
    of the epoch's permutation: the same images as in one process with batches of that size.
    Iterating yields (epoch, index): index is int64 (batch_size,).

    Args:
        size: images in the set.
        batch_size: images in a batch of one rank; cut down where the set is smaller than a batch.
        seed: the run's seed.
        rank, world_size: this process among all.
        shuffle: False takes the images as they come, in each epoch anew.

    Raises:
        UserError: there are fewer images than ranks.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        if size < world_size:
            raise UserError(f"{size} training images cannot be shared among {world_size} processes")
        self.size = size
        self.batch_size = min(batch_size, size // world_size)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it as each epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """The batches of the epoch from number `start` on."""
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch, 0x0D]).permutation(self.size)
        else:
            order = np.arange(self.size)
        step = self.batch_size * self.world_size
        epoch = self.epoch
        for number in range(self.start, len(self)):
            whole = order[number * step : (number + 1) * step]
            yield epoch, whole[self.rank :: self.world_size]


class AugmentedBatches(Dataset[Batch]):
    """A data set whose items are whole batches, asked for by (epoch, index)."""

    def __init__(self, images: ImageSet, pipeline: Pipeline) -> None:
        self.set = images
        self.pipeline = pipeline

    def __getitem__(self, request: tuple[int, np.ndarray]) -> Batch:
        epoch, index = request
        # A fresh array of the batch's images: results are written into it, and a transform that
        # writes into its input cannot reach the set.
        images = self.set.images[index]
        if self.pipeline.transforms:
            pipeline = self.pipeline
            for image, number in zip(images, index.tolist(), strict=True):
                image[:] = pipeline(image, epoch, number)
        labels = torch.from_numpy(self.set.labels[index])
        return Batch(torch.from_numpy(images), labels, torch.from_numpy(index.copy()))


class EpochLoader:
    """The training batches of one epoch after another, resumable at any batch.

    Lightning calls `iter` before it restores a checkpoint and before it says which epoch it is, so
    an iterator does nothing until its first batch is asked for. `state_dict` counts the batches
    handed out, not those that workers have fetched ahead, and names their epoch: after a resume
    the count holds for that epoch alone.
    """

    def __init__(self, batches: AugmentedBatches, order: EpochOrder, num_workers: int) -> None:
        self.batches = batches
        self.sampler = order  # Lightning looks for `set_epoch` under this name
        self.num_workers = num_workers
        self._loader: DataLoader[Batch] | None = None
        self._epoch = 0
        self._handed_out = 0
        self._restored = False

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: this line runs when the first batch is asked for.
        order = self.sampler
        if not self._restored or self._epoch != order.epoch:
            self._handed_out = 0
        self._restored = False
        self._epoch = order.epoch
        order.start = self._handed_out
        for batch in self._open():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where training is: the epoch, and how many of its batches were handed out."""
        return {"epoch": self._epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration after the batches that `state` counts, if its epoch is due."""
        self._epoch, self._handed_out = state["epoch"], state["batches"]
        self._restored = True

    def close(self) -> None:
        """End the workers; the next iteration starts new ones."""
        self._loader = None

    def _open(self) -> DataLoader[Batch]:
        """torch's loader, opened once: its workers live through all epochs."""
        if self._loader is None:
            # Forked workers share the set's pages with this process; elsewhere it is pickled once.
            context = "fork" if self.num_workers and sys.platform == "linux" else None
            self._loader = DataLoader(
                self.batches,
                sampler=self.sampler,
                batch_size=None,  # an item is a batch already
                collate_fn=_as_it_is,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                multiprocessing_context=context,
                worker_init_fn=_start_worker,
                pin_memory=torch.cuda.is_available(),
                # Of its own: torch draws a seed from it at each epoch, and the global stream,
                # which dropout uses, must not depend on how often that happens.
                generator=torch.Generator(),
            )
        return self._loader


class EvalLoader:
    """The images of a set in order, unaugmented; of several ranks, each takes every n-th image."""

    def __init__(
        self, images: ImageSet, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.set = images
        self.batch_size = batch_size
        self.index = np.arange(rank, len(images), world_size)

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.index), self.batch_size):
            index = self.index[start : start + self.batch_size]
            yield Batch(
                torch.from_numpy(self.set.images[index]),
                torch.from_numpy(self.set.labels[index]),
                torch.from_numpy(index),
            )


def _from_arrays(*arrays: np.ndarray) -> Batch:
    return Batch(*map(torch.from_numpy, arrays))


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    # Ctrl-C reaches the whole process group: the main process ends the workers, quietly.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
