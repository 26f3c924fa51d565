"""What a whole command takes, beside the same run without any cost of data; and Grad-CAM's share of it.

    AUGCAM_DATA=../shared/data python bench/end_to_end.py            # on a GPU: 35 epochs, CIFAR-10
    python bench/end_to_end.py --rounds 1 trainer.max_epochs=2       # other words as for train.py

Two commands in turn, each a process of its own:

- `train.py aug=cutout_rotate`, as a person types it.
- the same run with its training images on the device from the start, uint8, unaugmented, in the same
  order: no loader, no Albumentations, no copy. Normalize, metrics, logging, validation, pictures and
  checkpoints are as in the first: what is faster here is what the data path costs.

Compared are the whole commands from start to exit, and an epoch: the time from the first one's end to
the last one's, over their number, so without start-up and test, with validation, pictures and
checkpoints. A short run before the first round warms up.

Grad-CAM's share is what the panels of an epoch took (TensorBoard's `gradcam/seconds`: maps, drawing,
writing) of such an epoch, in `train.py`.

Without a GPU a short version runs, 3 epochs of 4 batches: it proves the script, and no speed. Its
share of Grad-CAM is that of an epoch over all training images at the run's images/s, validation left
out.
"""

import argparse
import os
import runpy
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from _timing import ROOT, alternated, composed, machine, markdown, ratio, show, timed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from augcam.config.schema import Config
from augcam.data.datamodule import ImageDataModule
from augcam.data.loader import Batch, EpochOrder
from augcam.runs.run_folder import RunFolder
from augcam.training import run as training_run

WITHOUT_DATA = "--without-data"  # the first word of a process that is the second contender
SHORT = [
    "trainer.max_epochs=3", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1", "trainer.log_every_n_steps=1",
]  # fmt: skip


class OnDevice:
    """The run's training batches, unaugmented, cut from images that lie on the device."""

    def __init__(self, data: ImageDataModule) -> None:
        assert data.trainer
        self.device = data.trainer.strategy.root_device
        self.sampler = EpochOrder(len(data.train_set), data.batch_size, data.seed)
        self.images = torch.from_numpy(data.train_set.images).to(self.device)
        self.labels = torch.from_numpy(data.train_set.labels).to(self.device)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        order = np.stack([index for _epoch, index in self.sampler])
        for index in torch.from_numpy(order).to(self.device):
            yield Batch(self.images[index], self.labels[index], index)


def train_without_data(arguments: Sequence[str]) -> None:
    """train.py, but for its training loader."""
    build = training_run.build_data

    def with_images_on_device(config: Config) -> ImageDataModule:
        data = build(config)
        vars(data)["train_dataloader"] = lambda: OnDevice(data)
        return data

    training_run.build_data = with_images_on_device
    sys.argv = ["train.py", *arguments]
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


class Command:
    """A contender: runs anew at each call, and keeps what its runs wrote down."""

    def __init__(self, program: Sequence[str | Path], overrides: Sequence[str]) -> None:
        self.command = [sys.executable, *map(str, program), *overrides]
        self.epoch_seconds: list[float] = []
        self.images_per_second: list[float] = []
        self.panel_seconds: list[float] = []  # of an epoch, on average over a run's

    def __call__(self) -> None:
        with TemporaryDirectory() as name:
            done = subprocess.run(
                [*self.command, f"hydra.run.dir={name}"], capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(f"{self.command}:\n{done.stdout}{done.stderr}")
            metrics = RunFolder(name).metrics()
            assert metrics
            ends = [row["wall_seconds"] for row in metrics["history"]]
            self.epoch_seconds.append((ends[-1] - ends[0]) / (len(ends) - 1))
            self.images_per_second.append(metrics["train_images_per_second"])
            events = EventAccumulator(name, size_guidance={"scalars": 0}).Reload()
            if "gradcam/seconds" in events.Tags()["scalars"]:
                panels = [event.value for event in events.Scalars("gradcam/seconds")]
                self.panel_seconds.append(statistics.mean(panels[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="as for train.py: model=resnet10 ...")
    asked = parser.parse_args()
    gpu = torch.cuda.is_available()
    # Data are looked for where the caller stands.
    os.environ["AUGCAM_DATA"] = str(Path(os.environ.get("AUGCAM_DATA", "data")).absolute())
    overrides = [
        "aug=cutout_rotate",
        "trainer.devices=1",
        *([] if gpu else SHORT),
        *asked.overrides,
    ]
    config = composed(*overrides)
    if config.trainer.max_epochs < 2:
        parser.error("at least 2 epochs: an epoch's time is counted from the first one's end")
    print(f"{machine()}; {asked.rounds} rounds\ntrain.py {' '.join(overrides)}")

    ours = Command([ROOT / "train.py"], overrides)
    without = Command([__file__, WITHOUT_DATA], overrides)
    subprocess.run([*ours.command, "trainer.fast_dev_run=true"], capture_output=True, check=True)
    calls = {"train.py": ours, "the same, images on the device": without}
    seconds = alternated(
        {name: partial(timed, call) for name, call in calls.items()}, asked.rounds, warm_up=0
    )
    first, second = seconds.values()
    table = markdown(
        f"{config.trainer.max_epochs} epochs of {config.model.label}, aug=cutout_rotate",
        "run", "whole command, s", "an epoch, s", "training images/s",
    )  # fmt: skip
    for (name, call), found in zip(calls.items(), seconds.values(), strict=True):
        table.add_row(
            name,
            f"{statistics.median(found):.1f}",
            f"{statistics.median(call.epoch_seconds):.2f}",
            f"{statistics.median(call.images_per_second):,.0f}",
        )
    show(table)
    table = markdown("of the speed with images on the device", "", "train.py reaches", "to reach")
    table.add_row("an epoch", ratio(without.epoch_seconds, ours.epoch_seconds), "0.9")
    table.add_row("the whole command", ratio(second, first), "")
    table.add_row("the whole command, s", f"{statistics.median(first):.0f}", "below 90 on a GPU")
    show(table)

    if config.explain.images:
        epochs = ours.epoch_seconds
        if not gpu:
            data = training_run.build_data(config)
            data.prepare_data()
            data.setup("fit")
            epochs = [len(data.train_set) / speed for speed in ours.images_per_second]
        table = markdown("Grad-CAM panels", "s an epoch", "of an epoch", "at most")
        share = [a / b for a, b in zip(ours.panel_seconds, epochs, strict=True)]
        table.add_row(
            f"{statistics.median(ours.panel_seconds):.2f}",
            f"{statistics.median(share):.2%} ({min(share):.2%} to {max(share):.2%})",
            "2%" if gpu else "3%",
        )
        show(table)


if __name__ == "__main__":
    if sys.argv[1:2] == [WITHOUT_DATA]:
        train_without_data(sys.argv[2:])
    else:
        main()
