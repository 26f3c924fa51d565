"""What the benchmarks share: contenders in turn, ratios within a round, the machine, and real runs."""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from rich import box, get_console
from rich.console import Console
from rich.table import Table

from augcam.config.compose import compose
from augcam.config.schema import Config, validate
from augcam.data.datamodule import ImageDataModule
from augcam.runs.build import build_data
from augcam.runs.run_folder import RunFolder
from augcam.training.build import build_classifier
from augcam.training.callbacks.history import Recorder
from augcam.training.module import Classifier
from augcam.training.trainer import build_trainer, quiet_libraries

ROOT = Path(__file__).parents[1]
Seconds = dict[str, list[float]]


def alternated(
    measures: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 2
) -> Seconds:
    """The seconds that each measure gives, in rounds of all of them, in a new order each time."""
    seconds: Seconds = {name: [] for name in measures}
    order = list(measures)
    shuffler = random.Random(0)
    for number in range(rounds + warm_up):
        shuffler.shuffle(order)
        for name in order:
            took = measures[name]()
            if number >= warm_up:
                seconds[name].append(took)
    return seconds


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call took."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """Median of the ratios within a round, and their quartiles: `1.23 (1.20 to 1.27)`."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    if len(ratios) == 1:
        return f"{ratios[0]:.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def machine() -> str:
    """What the numbers depend on, and how busy the machine is with other things (load average)."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    parts = [
        *(models[:1] or [platform.processor() or platform.machine()]),
        f"{os.cpu_count()} cores",
        str(torch.backends.cpu.get_cpu_capability()),
        f"{torch.get_num_threads()} threads",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        parts.insert(0, torch.cuda.get_device_name())
    return f"{', '.join(parts)}; load average {os.getloadavg()[0]:.1f}"


def markdown(title: str, *columns: str) -> Table:
    """A table that reads well in a terminal and can be pasted into a page."""
    table = Table(box=box.MARKDOWN, title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def show(table: Table) -> None:
    """Print a table, unfolded where the output is a file or pipe."""
    console = get_console()
    print()
    (console if console.is_terminal else Console(width=200)).print(table)


def composed(*overrides: str) -> Config:
    """The config of `python train.py OVERRIDES`."""
    return validate(compose(overrides))


@contextmanager
def real_run(config: Config) -> Iterator[tuple[ImageDataModule, Classifier, Any]]:
    """The parts of a run, as `augcam.training.train` builds them, writing into a temporary folder.

    The third is Lightning's Trainer, whose type does not know of its callbacks.
    """
    quiet_libraries()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = build_data(config)
    data.prepare_data()
    data.setup("fit")
    classifier = build_classifier(config, data.classes)
    with TemporaryDirectory() as folder:
        recorder = Recorder()
        yield data, classifier, build_trainer(config, RunFolder(folder), data, recorder)
