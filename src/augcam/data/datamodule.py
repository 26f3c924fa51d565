"""The LightningDataModule: hold-out split, loaders that can resume anywhere, normalized batches."""

import logging
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from augcam.data.augment.mix import Mix
from augcam.data.augment.pipeline import Pipeline
from augcam.data.datasets.base import ImageDataset, ImageSet, check_fingerprint
from augcam.data.loader import AugmentedBatches, Batch, EpochLoader, EpochOrder, EvalLoader
from augcam.data.normalize import normalize
from augcam.data.splits import stratified_holdout
from augcam.errors import UserError

# isort: split
import albumentations as A

log = logging.getLogger(__name__)


class ImageDataModule(pl.LightningDataModule):
    """A data set's images as batches: augmented for training, untouched for validation and test.

    Validation images are a seeded, stratified part of the training images. The test set is read
    in `setup("test")` and not before, unless it is what validates.

    Under several processes each rank gets its share, without Lightning's DistributedSampler: of
    every global batch of `batch_size` x world size images in training, of the whole set in
    validation and test. No evaluation image is seen twice, so the number of batches may differ by
    one between ranks, and metrics must sync at the epoch's end, not at each step.

    Args:
        dataset: where the images come from.
        pipeline: the random part of the augmentation: a `Pipeline`, or any `A.Compose` that keeps
            size and type; Normalize and ToTensorV2 follow by themselves.
        batch_size: images in a training batch, per process. The last, partial batch of an epoch is
            left out (BatchNorm cannot train on a batch of one); which images that hits changes
            with every epoch.
        eval_batch_size: images in a validation or test batch, per process.
        num_workers: loader processes for training; 0 augments in the main process. Evaluation
            batches are slices of an array and need none.
        holdout: training images kept back for validation: a number, or a share of each class (a
            float, 0 to 1); 0 turns validation off; "test" validates on the test set: then the best
            epoch is picked on it.
        seed: the run's seed.
        mix: what happens to a training batch and its labels on the device.
        views: of each training image, for a loss that compares them; see `AugmentedBatches`.

    Attributes:
        classes, mean, std: the data set's.
        train_set, val_set: after `setup("fit")`. test_set: after `setup("test")`. Each is an
            `ImageSet`; a batch's `index` counts within it.
    """

    train_set: ImageSet
    val_set: ImageSet
    test_set: ImageSet

    def __init__(
        self,
        dataset: ImageDataset,
        pipeline: Pipeline | A.Compose,
        *,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        holdout: int | float | Literal["test"],
        seed: int,
        mix: Mix | None = None,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.pipeline = (
            Pipeline({"compose": pipeline}, seed) if isinstance(pipeline, A.Compose) else pipeline
        )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.holdout = holdout
        self.seed = seed
        self.mix = mix
        self.views = views
        self._prepared = False
        self._train_loader: EpochLoader | None = None
        self._resume_at: dict[str, int] = {}
        self._scaling: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.dataset.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.dataset.std

    @property
    def fingerprint(self) -> str:
        """A digest of the data set's images, which a run keeps and a later command compares."""
        return self.dataset.fingerprint()

    def prepare_data(self) -> None:
        """Download or verify the data set. Raises UserError where it cannot be used."""
        if not self._prepared:
            self.dataset.prepare()
            if self.mix and len(self.classes) < 2:
                raise UserError(
                    f"mix: the data set has one class, {self.classes[0]}, and the label of a mixture is "
                    "shared among two; mix=none"
                )
            self._prepared = True

    def setup(self, stage: str) -> None:
        """Read, once, the training images for "fit" and "validate", the test images for "test".

        Raises:
            UserError: the data cannot be read, the hold-out is too large, or a transform does not
                fit the images.
        """
        if stage in ("fit", "validate") and not hasattr(self, "train_set"):
            images = self.dataset.train()
            if self.holdout == "test":
                self.train_set, self.val_set = images, self.dataset.test()
            elif self.holdout:
                train, val = stratified_holdout(images.labels, self.holdout, self.seed)
                self.train_set, self.val_set = images.subset(train), images.subset(val)
                if not len(val):
                    log.warning(
                        "data.holdout=%s: no class has an image to spare, so there is no validation",
                        self.holdout,
                    )
            else:
                self.train_set, self.val_set = images, images.subset(np.arange(0))
            self.pipeline.check(self.train_set.images[0])
        if stage == "test" and not hasattr(self, "test_set"):
            self.test_set = self.dataset.test()

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
            AugmentedBatches(self.train_set, self.pipeline, self.views), order, self.num_workers
        )
        if self._resume_at:
            self._train_loader.load_state_dict(self._resume_at)
            self._resume_at = {}
        return self._train_loader

    def state_dict(self) -> dict[str, int | str]:
        """The training loader's place and the images' fingerprint, kept in the checkpoint.

        Lightning 2.6 keeps it too, but forgets to restore it where a scheduler has asked for
        `estimated_stepping_batches`: by then the loader exists.
        """
        place = self._train_loader.state_dict() if self._train_loader else {}
        return {**place, "fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, int | str]) -> None:
        """Let the next training loader begin where the checkpoint was written.

        Raises:
            UserError: the checkpoint was written by a run on other images.
        """
        check_fingerprint(state_dict.get("fingerprint"), self.dataset, "the checkpoint")
        if "batches" in state_dict:
            self._resume_at = {key: int(state_dict[key]) for key in ("epoch", "batches")}

    def val_dataloader(self) -> "EvalLoader | list[Any]":
        if not len(self.val_set):
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
        if self.mix and self.trainer and self.trainer.training:
            return self._mixed(batch, self.mix, self.trainer)
        return batch._replace(images=normalize(batch.images, *self._scaling))

    def _mixed(self, batch: Batch, mix: Mix, trainer: pl.Trainer) -> Batch:
        """The batch normalized and mixed: this rank's share of the mixed global batch."""
        assert self._scaling is not None
        images, labels = batch.images, batch.labels
        rank, world_size = self._place()
        if world_size > 1:  # EpochOrder deals out the global batch one image a rank, in turn
            images, labels = (
                trainer.strategy.all_gather(part).transpose(0, 1).flatten(0, 1)
                for part in (images, labels)
            )
        shares = F.one_hot(labels, len(self.classes)).float()
        number = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        mixed, shares = mix(
            normalize(images, *self._scaling), shares, trainer.current_epoch, number
        )
        return batch._replace(images=mixed[rank::world_size], labels=shares[rank::world_size])

    def _place(self) -> tuple[int, int]:
        """(rank, number of ranks) of this process."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
