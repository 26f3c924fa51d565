"""How fast a training step is beside hand-written loops, and how near to what the machine can do.

    python bench/step.py                        # minutes; on a GPU it measures there
    python bench/step.py --rounds 3 model=resnet10 data.batch_size=32      # other words as for train.py

One real run, built by `augcam.training` with all its callbacks, metrics and logging, trains on batches
that lie in memory, and stops after every few steps: there the other loops make as many steps, with
networks and optimizers of their own, on the same batches. A turn of ours lasts from the end of one
batch to the end of a later one, so that everything that Lightning and AugCAM do between two steps is
in it; also the copy to the device and Normalize, which the others are spared. In nobody's turn are
augmentation (bench/data.py), validation, pictures and start-up (bench/end_to_end.py, startup.py).

- plain: same network, precision, layout and loss, torch's SGD as it comes (ours is the fused one),
  OneCycle too; no metrics, no logging.
  All share one process, so they have AugCAM's allocator settings too; what these are worth is measured
  apart, on a CPU: the plain loop in processes of its own, in turn with and without them.
- convolutions: plain, the last stage not as matrix products (`augcam.models.resnet.MatrixConv2d`), on a
  CPU in bf16.
- pytorch-cifar: as in kuangliu/pytorch-cifar's main.py: float32, NCHW, SGD with momentum .9 and weight
  decay 5e-4, loss and accuracy read at every step. Its ResNet18 is the same arithmetic as ours.

Ratios are how many times as fast AugCAM is, within one round: the median and the quartiles.

The limit is counted from one step, operation by operation: the floating point operations of its
convolutions and matrix products, over the fastest of the matrix products measured here; and the bytes
that all other operations read and write, over the fastest of the copies measured here. Eager PyTorch
does one after the other, so the two times add up; a compiler could merge operations and beat the second.
"""

import argparse
import copy
import itertools
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from _timing import Seconds, alternated, composed, machine, markdown, ratio, real_run, show, timed
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from augcam.config.schema import Config
from augcam.data.datamodule import ImageDataModule
from augcam.data.loader import Batch
from augcam.models import resnet
from augcam.runs.build import build_network
from augcam.training.hardware import auto_precision, keep_freed_memory

OURS = "AugCAM"
WARM_UP = 2  # rounds
IN_MEMORY = 4  # different batches
Loop = Callable[[], None]


class InMemory:
    """A loader that hands out the same few batches again and again."""

    def __init__(self, batches: Sequence[Batch], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(itertools.cycle(self.batches), self.steps)


class Turns(Callback):
    """After every `steps` steps of the run, the last of all callbacks: the others' turn."""

    def __init__(self, others: dict[str, Loop], steps: int) -> None:
        self.others, self.steps = others, steps
        self.seconds: Seconds = {name: [] for name in (OURS, *others)}
        self.mark = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule,
        outputs: Any, batch: Any, batch_idx: int,
    ) -> None:  # fmt: skip
        rounds, rest = divmod(batch_idx + 1, self.steps)
        if rest:
            return
        wait(pl_module.device)
        took = {OURS: time.perf_counter() - self.mark}
        for name in random.sample(list(self.others), len(self.others)):
            took[name] = timed(self.others[name])
        if rounds > WARM_UP:
            for name, seconds in took.items():
                self.seconds[name].append(seconds)
        self.mark = time.perf_counter()


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def with_convolutions(step: Callable[[Tensor, Tensor], None]) -> Callable[[Tensor, Tensor], None]:
    """The same step, whose convolutions are all computed by torch's."""

    def convolving(images: Tensor, labels: Tensor) -> None:
        with patch.object(resnet, "FEW_CELLS", 0):
            step(images, labels)

    return convolving


def plain_step(
    network: nn.Module, config: Config, bf16: bool, steps_in_all: int
) -> Callable[[Tensor, Tensor], None]:
    """A training step as one writes it by hand, for the same result."""
    optimizer = torch.optim.SGD(network.parameters(), **config.optim.arguments())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.optim.lr, total_steps=steps_in_all
    )
    device = next(network.parameters()).device.type
    smoothing = config.loss.label_smoothing

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(network(images), labels, label_smoothing=smoothing)
        loss.backward()
        optimizer.step()
        scheduler.step()

    return step


def pytorch_cifar_step(network: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """A training step with the optimizer and the book-keeping of kuangliu/pytorch-cifar."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    sums = {"loss": 0.0, "correct": 0}

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        logits = network(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        sums["loss"] += loss.item()
        sums["correct"] += logits.argmax(1).eq(labels).sum().item()

    return step


def turn(
    step: Callable[[Tensor, Tensor], None], batches: Sequence[tuple[Tensor, Tensor]], steps: int
) -> Loop:
    """`steps` steps on batches that lie on the device, and the wait for their end."""
    endless = itertools.cycle(batches)

    def loop() -> None:
        for images, labels in itertools.islice(endless, steps):
            step(images, labels)
        wait(batches[0][0].device)

    return loop


def prepared(data: ImageDataModule, device: torch.device) -> tuple[list[Batch], list[Batch]]:
    """A few training batches, as the loader hands them out and as they enter the network."""
    raw = list(itertools.islice(data.train_dataloader(), IN_MEMORY))
    moved = [Batch(*(part.to(device) for part in batch)) for batch in raw]
    return raw, [data.on_after_batch_transfer(batch, 0) for batch in moved]


def measure(config: Config, rounds: int, steps: int) -> tuple[Seconds, str]:
    """Seconds of every turn, and the arithmetic of the limit in words."""
    in_all = (rounds + WARM_UP) * steps
    with real_run(config) as (data, classifier, trainer):
        device = trainer.strategy.root_device
        bf16 = trainer.precision == "bf16-mixed"
        raw, normalized = prepared(data, device)
        network = build_network(config, len(data.classes)).train().to(device)
        nchw = copy.deepcopy(network)
        network = network.to(memory_format=torch.channels_last)
        ours = [(batch.images, batch.labels) for batch in normalized]
        theirs = [(images.contiguous(), labels) for images, labels in ours]
        step = plain_step(network, config, bf16, steps_in_all=in_all + 1)
        others = {
            "plain": turn(step, ours, steps),
            "pytorch-cifar": turn(pytorch_cifar_step(nchw), theirs, steps),
        }
        if bf16 and device.type == "cpu":
            another = plain_step(copy.deepcopy(network), config, bf16, steps_in_all=in_all)
            others["convolutions"] = turn(with_convolutions(another), ours, steps)
        limit = Limit(device, bf16)
        limit.count(step, *ours[0])
        turns = Turns(others, steps)
        trainer.callbacks.append(turns)  # behind all others, so that a turn has them all in it
        loader = InMemory(raw, in_all)
        with patch.object(data, "train_dataloader", lambda: loader):
            trainer.fit(classifier, data)
    return turns.seconds, limit.told(statistics.median(turns.seconds[OURS]) / steps)


class Traffic(TorchDispatchMode):
    """Adds up the bytes that operations other than convolutions and matrix products touch."""

    nbytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func._overloadpacket not in flop_registry:
            touched = tree_leaves((args, kwargs, result))
            self.nbytes += sum(part.nbytes for part in touched if isinstance(part, Tensor))
        return result


class Limit:
    """What a step takes at least on this device: see the text at the top."""

    def __init__(self, device: torch.device, bf16: bool) -> None:
        self.device = device
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.flops = self.nbytes = 0

    def count(self, step: Callable[[Tensor, Tensor], None], images: Tensor, labels: Tensor) -> None:
        """Count the operations of one step, and make it."""
        with FlopCounterMode(display=False) as counter, Traffic() as traffic:
            step(images, labels)
        self.flops, self.nbytes = counter.get_total_flops(), traffic.nbytes

    def fastest(self, call: Callable[[], object]) -> float:
        """Seconds of the fastest of several calls."""
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            call()
            wait(self.device)
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def matrix_rate(self) -> float:
        """Floating point operations a second of a large matrix product."""
        side = 8192 if self.device.type == "cuda" else 2048
        a, b = torch.randn(2, side, side, device=self.device).to(self.dtype)
        return 2 * side**3 / self.fastest(lambda: a @ b)

    def convolution_rate(self) -> float:
        """The same of one convolution of ResNet18's second stage, forwards, channels_last."""
        images = torch.randn(128, 128, 16, 16, device=self.device).to(self.dtype)
        weights = torch.randn(128, 128, 3, 3, device=self.device).to(self.dtype)
        images, weights = (t.to(memory_format=torch.channels_last) for t in (images, weights))
        seconds = self.fastest(lambda: F.conv2d(images, weights, padding=1))
        return 2 * images.numel() * weights[0].numel() / seconds

    def copy_rate(self) -> float:
        """Bytes read and written a second by a copy of 256 MiB."""
        source = torch.ones(2**26, device=self.device)
        target = torch.empty_like(source)
        return 2 * source.nbytes / self.fastest(lambda: target.copy_(source))

    def told(self, seconds: float) -> str:
        """The limit beside the `seconds` that a step of ours took."""
        matrices, copies = self.matrix_rate(), self.copy_rate()
        first, second = self.flops / matrices, self.nbytes / copies
        both = first + second
        return "\n".join(
            [
                f"limit of a step in {str(self.dtype).removeprefix('torch.')}:",
                f"  {self.flops / 1e9:.1f} GFLOP in convolutions and matrix products / "
                f"{matrices / 1e9:,.0f} GFLOP/s (matrix product) = {first:.4f} s",
                f"  {self.nbytes / 1e9:.3f} GB through all other operations / "
                f"{copies / 1e9:,.1f} GB/s (copy) = {second:.4f} s",
                f"  together {both:.4f} s; AugCAM's step takes {seconds:.4f} s: it is at "
                f"{both / seconds:.0%} of the limit, at {first / seconds:.0%} of the matrix rate",
                f"  (a 3x3 convolution of 128 to 128 channels reaches "
                f"{self.convolution_rate() / 1e9:,.0f} GFLOP/s)",
            ]
        )


def alone(config: Config, bf16: bool, steps: int, keep: bool) -> float:
    """Seconds of `steps` plain steps in this process, on memory that it keeps or gives back."""
    if keep:
        keep_freed_memory()
    network = build_network(config, 10).train().to(memory_format=torch.channels_last)
    size = config.data.batch_size
    images = torch.randn(size, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (size,))
    step = plain_step(network, config, bf16, steps_in_all=steps + 2)
    step(images, labels)
    return timed(turn(step, [(images, labels)], steps))


def allocator(config: Config, bf16: bool, rounds: int, steps: int) -> None:
    """What it is worth that a run keeps the memory that it frees."""

    def measure(keep: bool) -> float:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(alone, config, bf16, steps, keep).result()

    seconds = alternated({"kept": lambda: measure(True), "not": lambda: measure(False)}, rounds, 0)
    print(
        "\nhand-written loop in a process of its own, so many times as fast where freed memory is "
        f"kept: {ratio(seconds['not'], seconds['kept'])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default=None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, help="in a turn; default 3 on a CPU, 100 on a GPU")
    parser.add_argument("overrides", nargs="*", help="as for train.py: model=resnet10 ...")
    asked = parser.parse_args()
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    steps = asked.steps or (100 if device == "cuda" else 3)
    hardware = auto_precision(device)
    print(f"{machine()}; {asked.rounds} rounds of {steps} steps on {device}")
    for precision in dict.fromkeys((hardware, "32-true")):
        # The images' content is of no account, so they are drawn: no data set is needed.
        config = composed(
            "data=shapes", "data.train_size=2000", "data.test_size=10", "data.holdout=0", "aug=none",
            "preview.samples=0", "trainer.max_epochs=1", f"trainer.accelerator={device}",
            "trainer.devices=1", f"trainer.precision={precision}", *asked.overrides,
        )  # fmt: skip
        seconds, limit = measure(config, asked.rounds, steps)
        bf16 = precision == "bf16-mixed"
        images = steps * config.data.batch_size
        kind = "bf16" if bf16 else "float32"
        table = markdown(
            f"training step, {config.model.label}, batch {config.data.batch_size}, {kind}",
            "loop", "s a step", "images/s", "AugCAM is so many times as fast", "to reach",
        )  # fmt: skip
        rows = {
            OURS: (f"AugCAM: Lightning, metrics, logging; {kind}, channels_last", ""),
            "plain": (f"hand-written, {kind}, channels_last", "0.97"),
            "pytorch-cifar": ("pytorch-cifar, float32, NCHW", "2.2" if bf16 else "(2.2 with bf16)"),
        }
        if "convolutions" in seconds:
            rows["convolutions"] = (f"hand-written, {kind}, no matrix products", "")
        for name, (title, target) in rows.items():
            middle = statistics.median(seconds[name])
            table.add_row(
                title,
                f"{middle / steps:.4f}",
                f"{images / middle:,.0f}",
                "" if name == OURS else ratio(seconds[name], seconds[OURS]),
                target,
            )
        show(table)
        print(f"\n{limit}")
        if device == "cpu":
            allocator(config, bf16, rounds=min(asked.rounds, 5), steps=5)
    if hardware != "bf16-mixed":
        print("\nbf16: not run: no bf16 hardware")


if __name__ == "__main__":
    main()
