"""How fast the training loader is beside loaders as one writes them by hand.

    AUGCAM_DATA=../shared/data python bench/data.py          # minutes, on CIFAR-10
    python bench/data.py --images 2560 --rounds 3 --train-rounds 0
    python bench/data.py --pipelines randaugment trivialaugment --train-rounds 0

A turn is one epoch over the same images: every batch fetched, augmented, normalized and ready to enter
the network. Ours is the loader of `augcam.data.datamodule` with Normalize and ToTensorV2 once a batch
on the device, as in a run. The others ask a Dataset for one image at a time and let torch's default
collate stack them, shuffled, the last partial batch left out:

- Albumentations: A.Compose of Albumentations' own transforms, Normalize, ToTensorV2.
- AugCAM, image by image: the same loader and pipeline, which draws and transforms one image at a time
  instead of a batch at once (data/augment/batch.py). The batches are the same, bit for bit.
- the same transforms: A.Compose of the very transforms of our pipeline (crop and Rotate in AugCAM's
  faster versions), so that what remains is the loader alone.
- torchvision, PIL: RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize on PIL images,
  as in kuangliu/pytorch-cifar.
- torchvision, PIL of a policy: the same policy of transforms.v2 on PIL images, then ToTensor, Normalize.
- torchvision v2: the same in transforms.v2 on uint8 tensors that lie ready as (3, 32, 32).

With workers, everybody's live through all epochs, which the hand-written loaders have to ask for
(persistent_workers). Ratios are how many times as fast AugCAM is, within one round: the median and
the quartiles.

At last a real run, with 0 and with 2 workers in turn: does `data.num_workers=auto` pick what is faster
when the training step wants the cores too? Its start, validation and pictures are left out.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from typing import Any, cast

import albumentations as A
import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from _timing import alternated, composed, machine, markdown, ratio, real_run, show, timed
from albumentations.pytorch import ToTensorV2
from PIL import Image
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from augcam.data.augment.build import build_pipeline
from augcam.data.augment.pipeline import Pipeline
from augcam.data.datamodule import ImageDataModule
from augcam.data.datasets.base import ImageSet
from augcam.data.loader import EpochLoader, auto_workers
from augcam.runs.build import build_data

OURS, BY_IMAGE = "AugCAM", "AugCAM, image by image"
FLIP = [A.HorizontalFlip(p=0.5)]
# The pipelines of conf/aug in Albumentations' own transforms.
BY_HAND = {
    "flip": FLIP,
    "crop_flip": [
        A.PadIfNeeded(40, 40, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(32, 32), *FLIP,
    ],
    "cutout": [
        A.CoarseDropout(
            num_holes_range=(1, 1), hole_height_range=(8, 16), hole_width_range=(8, 16),
            fill=(125, 123, 114), p=0.75,
        ),
    ],
    "cutout_rotate": [
        *FLIP,
        A.Rotate(limit=15, border_mode=cv2.BORDER_REFLECT_101, p=0.5),
        A.CoarseDropout(
            num_holes_range=(1, 1), hole_height_range=(8, 16), hole_width_range=(8, 16),
            fill=(125, 123, 114), p=0.75,
        ),
    ],
}  # fmt: skip
# The policies, which Albumentations has not: torchvision's on PIL images, with the same strengths.
POLICIES = {
    "randaugment": partial(v2.RandAugment, num_ops=2, magnitude=9),
    "trivialaugment": v2.TrivialAugmentWide,
}
BATCHED = ("flip", "crop_flip", "cutout")
# What to reach beside Albumentations: without workers, with two.
REACH = {"flip": ("2.5", "2.2"), "crop_flip": ("1.9", "1.6"), "cutout_rotate": ("1.5", "1.4")}


class PerImage(Dataset[tuple[Any, int]]):
    """One image after the other: `read(i)` through `transform`, and its label."""

    def __init__(
        self, labels: np.ndarray, read: Callable[[int], Any], transform: Callable[[Any], Any]
    ) -> None:
        self.labels, self.read, self.transform = labels, read, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.read(index)), int(self.labels[index])


def by_hand(data: ImageDataModule, pipeline: str) -> dict[str, Dataset[Any]]:
    """The Datasets that ours is compared with."""
    images: ImageSet = data.train_set
    array = images.images
    scaling = {"mean": data.mean, "std": data.std}

    def albumentations(random_part: Iterable[A.BasicTransform]) -> Dataset[Any]:
        compose = A.Compose([*random_part, A.Normalize(**scaling), ToTensorV2()])
        return PerImage(
            images.labels, array.__getitem__, lambda image: compose(image=image)["image"]
        )

    if pipeline in POLICIES:
        fill = [round(255 * channel) for channel in data.mean]
        policy = transforms.Compose(
            [
                POLICIES[pipeline](fill=fill),
                transforms.ToTensor(), transforms.Normalize(**scaling),
            ]
        )  # fmt: skip
        return {
            "torchvision, PIL": PerImage(
                images.labels, lambda index: Image.fromarray(array[index]), policy
            )
        }
    found = {
        "Albumentations": albumentations(BY_HAND[pipeline]),
        # Built anew: Compose gives them its own random state.
        "the same transforms": albumentations(
            build_pipeline(
                composed(f"aug={pipeline}").aug, 1, lambda: data.mean
            ).transforms.values()
        ),
    }
    if pipeline == "crop_flip":
        pil = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
                transforms.ToTensor(), transforms.Normalize(**scaling),
            ]
        )  # fmt: skip
        tensors = v2.Compose(
            [
                v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True), v2.Normalize(**scaling),
            ]
        )  # fmt: skip
        channels_first = torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
        found["torchvision, PIL"] = PerImage(
            images.labels, lambda index: Image.fromarray(array[index]), pil
        )
        found["torchvision v2"] = PerImage(images.labels, channels_first.__getitem__, tensors)
    return found


def epoch_of_ours(data: ImageDataModule, loader: EpochLoader) -> None:
    """One epoch of a run's own loader, as Lightning goes through it."""
    loader.sampler.set_epoch(loader.sampler.epoch + 1)
    for batch in loader:
        data.on_after_batch_transfer(batch, 0)


class ImageByImage:
    """A pipeline without its batch forms."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.transforms = pipeline, pipeline.transforms

    def batch(self, images: np.ndarray, epoch: int, index: np.ndarray, labels: np.ndarray) -> None:
        """Write over uint8 (B, H, W, 3)."""
        for image, number, label in zip(images, index.tolist(), labels.tolist(), strict=True):
            image[:] = self.pipeline(image, epoch, number, label)


def epoch_by_hand(loader: DataLoader[Any]) -> None:
    """One epoch of torch's loader."""
    for _images, _labels in loader:
        pass


def loaders(pipeline: str, workers: int, images: int, rounds: int) -> None:
    """The table of one pipeline."""
    data = build_data(composed(f"aug={pipeline}", f"data.num_workers={workers}"))
    data.prepare_data()
    data.setup("fit")
    data.train_set = data.train_set.subset(np.arange(images))
    contenders = by_hand(data, pipeline)
    if workers:  # the others are compared above
        contenders = {"Albumentations": contenders["Albumentations"]}
    measures = {OURS: partial(timed, partial(epoch_of_ours, data, data.train_dataloader()))}
    if not workers:
        one_by_one = data.train_dataloader()
        batches = one_by_one.batches
        one_by_one.batches = copy(batches)
        one_by_one.batches.pipeline = cast(Pipeline, ImageByImage(batches.pipeline))
        measures[BY_IMAGE] = partial(timed, partial(epoch_of_ours, data, one_by_one))
    for name, dataset in contenders.items():
        loader = DataLoader(
            dataset, data.batch_size, shuffle=True, drop_last=True,
            num_workers=workers, persistent_workers=workers > 0,
        )  # fmt: skip
        measures[name] = partial(timed, partial(epoch_by_hand, loader))
    seconds = alternated(measures, rounds, warm_up=1)
    data.teardown("fit")
    reach = {
        "Albumentations": REACH.get(pipeline, ("", ""))[workers > 0],
        "torchvision, PIL": "3" if pipeline in POLICIES else "4",
        "torchvision v2": "1",
        BY_IMAGE: "1.5" if pipeline in BATCHED else "",
    }
    table = markdown(
        f"{pipeline}, {workers or 'no'} workers",
        "loader", "images/s", "AugCAM is so many times as fast", "to reach",
    )  # fmt: skip
    seen = images // data.batch_size * data.batch_size
    for name, found in seconds.items():
        cells = ("", "") if name == OURS else (ratio(found, seconds[OURS]), reach.get(name, ""))
        table.add_row(name, f"{seen / statistics.median(found):,.0f}", *cells)
    show(table)


class Clock(Callback):
    """When each training batch had ended, on the device too."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule,
        outputs: Any, batch: Any, batch_idx: int,
    ) -> None:  # fmt: skip
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def training(workers: int, steps: int, overrides: list[str]) -> float:
    """Seconds of `steps` steps of a real run, after two that started workers and warmed up."""
    config = composed(
        "aug=cutout_rotate", "preview.samples=0", "explain.images=0", "trainer.max_epochs=1",
        f"trainer.limit_train_batches={steps + 2}", "trainer.limit_val_batches=0",
        "trainer.log_every_n_steps=1", "trainer.devices=1", f"data.num_workers={workers}", *overrides,
    )  # fmt: skip
    clock = Clock()
    with real_run(config) as (data, classifier, trainer):
        trainer.callbacks.append(clock)
        trainer.fit(classifier, data)
    return clock.ends[-1] - clock.ends[1]


def auto(rounds: int, steps: int, overrides: list[str]) -> None:
    """Whether `auto` workers are the faster ones in training."""
    config = composed("aug=cutout_rotate", *overrides)
    chosen = auto_workers(config.trainer.accelerator)
    contenders = sorted({0, 2, chosen})
    seconds = alternated(
        {str(workers): partial(training, workers, steps, overrides) for workers in contenders},
        rounds, warm_up=1,
    )  # fmt: skip
    table = markdown(
        f"training, {config.model.label}, aug=cutout_rotate: auto picks {chosen} workers",
        "workers", "images/s", "auto is so many times as fast",
    )  # fmt: skip
    for name, found in seconds.items():
        speed = steps * config.data.batch_size / statistics.median(found)
        times = "" if name == str(chosen) else ratio(found, seconds[str(chosen)])
        table.add_row(name, f"{speed:,.0f}", times)
    show(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=12_800, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--pipelines", nargs="+", default=[*BY_HAND, *POLICIES])
    parser.add_argument("--train-rounds", type=int, default=4, help="0: no training")
    parser.add_argument("--train-steps", type=int, help="default 6 on a CPU, 200 on a GPU")
    parser.add_argument("overrides", nargs="*", help="of the training: model=resnet10 ...")
    asked = parser.parse_args()
    print(f"{machine()}; {asked.rounds} rounds of {asked.images} images")
    for workers in (0, 2):
        for pipeline in asked.pipelines:
            if workers and pipeline in POLICIES:
                continue
            loaders(pipeline, workers, asked.images, asked.rounds)
    steps = asked.train_steps or (200 if torch.cuda.is_available() else 6)
    if asked.train_rounds:
        auto(asked.train_rounds, steps, asked.overrides)


if __name__ == "__main__":
    main()
