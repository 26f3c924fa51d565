"""Batches: which images are in which, and loaders that go on at any of them after a stop."""

import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from augcam.data.augment.pipeline import Pipeline
from augcam.data.datasets.base import ImageSet
from augcam.errors import UserError


class Batch(NamedTuple):
    """images: uint8 (B, H, W, 3) from a loader, float32 (B, 3, H, W), normalized, in a step.
    Where an image has several views (`loss.jsd`), images are the first view of all, then the second
    of all, ...: (views x B, ...), while labels and index stay as long as B.
    labels: int64 (B,); after mixing float32 (B, C), each class's share in each image.
    index: int64 (B,), each image's number in its set."""

    images: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # a tuple has a method of that name

    def __reduce__(self) -> tuple[Any, ...]:
        # From a worker as arrays, whose bytes go through the pipe. A tensor is sent as a file
        # descriptor, for which the receiver waits until a thread of the busy worker gets its turn.
        return _from_arrays, tuple(part.cpu().numpy() for part in self)


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

    @property
    def left_out(self) -> int:
        """How many images of an epoch are in no batch: those that would not fill one."""
        return self.size % (self.batch_size * self.world_size)

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
    """A data set whose items are whole batches, asked for by (epoch, index).

    Args:
        images: the set.
        pipeline: the augmentation.
        views: of each image; several differ in AugMix alone, and the first is without it.
    """

    def __init__(self, images: ImageSet, pipeline: Pipeline, views: int = 1) -> None:
        self.set = images
        self.pipeline = pipeline
        self.views = views

    def __getitem__(self, request: tuple[int, np.ndarray]) -> Batch:
        epoch, index = request
        # A fresh array of the batch's images: results are written into it, and a transform that
        # writes into its input cannot reach the set.
        images, labels = self.set.images[index], self.set.labels[index]
        if self.views > 1:
            images = np.concatenate([images] * self.views)
            views = np.arange(self.views).repeat(len(index))
            self.pipeline.batch(
                images, epoch, np.tile(index, self.views), np.tile(labels, self.views), views
            )
        elif self.pipeline.transforms:
            self.pipeline.batch(images, epoch, index, labels)
        return Batch(
            torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(index.copy())
        )


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


def auto_workers(accelerator: str) -> int:
    """Loader processes, from the cores that a cluster's job was given and not all of its machine's.

    None on a CPU: there the training step is the limit, and workers would take its cores.
    """
    if not uses_gpu(accelerator):
        return 0
    from lightning_fabric.utilities import suggested_max_num_workers

    return min(16, suggested_max_num_workers(max(1, torch.cuda.device_count())))


def uses_gpu(accelerator: str) -> bool:
    """Whether a run with this `trainer.accelerator` computes on CUDA."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
