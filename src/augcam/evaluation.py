"""A finished run under measurement: what needs its network, computed once and kept in its folder.

Calibration, accuracy under corruptions, and how faithful its Grad-CAM maps are. torch and what needs
it are imported late: whether a run is evaluated already is known within a second.
"""

import hashlib
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.progress import Progress, TaskID

from augcam.atomic import atomic_file, remove_leftovers, write_atomically
from augcam.data.splits import in_proportion
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from augcam.data.cifar10c import Cifar10C
    from augcam.runs.finished_run import FinishedRun

Checkpoint = Literal["last", "best"]

# What evaluation.npz holds.
ARRAYS = ("index", "label", "probabilities", "map_true")


def subset(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """`n` of the images, from each class in proportion, to less than one image; all if fewer.

    A smaller subset of the same seed is part of a larger one.

    Args:
        labels: int (N,).

    Returns:
        int64 (min(n, N),), ascending.
    """
    return np.sort(in_proportion(labels, n, np.random.default_rng(seed)))


def kept(
    folder: RunFolder,
    n: int,
    samples: int,
    seed: int,
    checkpoint: Checkpoint,
    official: "Cifar10C | None" = None,
) -> dict[str, Any] | None:
    """The run's evaluation.json; None if there is none of these settings and of these weights.

    One that was also made on `official` files will do where none are given now.

    Raises:
        UserError: not a run folder, or no such checkpoint.
    """
    asked = _asked(folder, n, samples, seed, checkpoint, official)
    try:
        record: dict[str, Any] = json.loads(folder.evaluation_file.read_text())
    except (OSError, ValueError):  # not there, or damaged
        return None
    had = record.get("asked") if isinstance(record, dict) else None
    if not isinstance(had, dict):
        return None
    same = {key: had[key] for key in had if official or key != "cifar10c"} == asked
    return record if same and _is_whole(folder.evaluation_arrays) else None


def _is_whole(npz_file: Path) -> bool:
    """Whether all arrays are there, and their checksums right."""
    try:
        with zipfile.ZipFile(npz_file) as archive:
            return {f"{n}.npy" for n in ARRAYS} <= {*archive.namelist()} and not archive.testzip()
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        return False


def measure_run(
    folder: RunFolder,
    n: int,
    samples: int,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress,
    official: "Cifar10C | None" = None,
) -> dict[str, Any]:
    """Measure a run's network and keep the result: evaluation.npz, then evaluation.json.

    Images, corruptions and their noise depend on the test set, `n` and `seed` alone, so that runs
    on one data set compare image by image, whatever part of the test set each was tested on.
    float32, on the GPU if there is one. With n=1000 the network sees 75,000 corrupted images, 2,000
    explanations and 11,400 images for insertion and deletion.

    Args:
        n: test images; all if there are fewer.
        samples: of these, for insertion and deletion; all if there are fewer.
        progress: gets a task of its own, and a line on its console for each corruption.
        official: files of CIFAR-10-C to measure on as well, on the same test images.

    Returns:
        The content of evaluation.json. Accuracies are 0..1. "corruptions" has the accuracy at
        severities 1 to 5 of each; "maps" the mean, 95% interval and number of images of each
        measure, for the true class; "degenerate" counts the true classes' maps that say nothing.
        "maps" also has "excess": "random" (the map with its cells in random places) and "centre"
        (a Gaussian), each with the mean difference of insertion and of deletion to that map on the
        same images. Scores of different networks fall at different paces whatever is removed
        (arXiv 2303.14608), so between networks it is the excess that compares. "cifar10c", where
        `official` was given, has the accuracy under each of its "corruptions" likewise, and the
        names of "other_files", which are not the official ones.

    Raises:
        UserError: not a run folder, no such checkpoint, nothing can be written there, another process
            evaluates it, no test set, `official` files of another one, or a network whose outputs are
            NaN.
    """
    asked = _asked(folder, n, samples, seed, checkpoint, official)
    folder.require_writable()
    for file in (folder.evaluation_file, folder.evaluation_arrays):
        if file.is_dir():
            raise UserError(f"{file}: a folder is in the way of the file; remove it")
    with folder.locked("evaluate"):  # two would mix one's numbers with the other's maps
        remove_leftovers(folder.path, "evaluation.*")
        return _measure(folder, asked, n, samples, seed, checkpoint, progress, official)


def _measure(
    folder: RunFolder,
    asked: dict[str, Any],
    n: int,
    samples: int,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress,
    official: "Cifar10C | None",
) -> dict[str, Any]:
    """What `measure_run` returns, in a folder that no other evaluation writes to."""
    import torch
    from torchmetrics.classification import MulticlassCalibrationError

    from augcam.data.cifar10c import SEVERITIES
    from augcam.data.corruptions import CORRUPTIONS, corrupt
    from augcam.explain import cam
    from augcam.runs.finished_run import kept_predictions, open_run
    from augcam.training.hardware import environment

    began = time.perf_counter()
    run = open_run(folder, checkpoint, progress)
    index = subset(run.labels, n, seed)
    tested = kept_predictions(folder)
    if tested is not None and len(tested[0]) < len(run.labels):
        progress.console.print(
            f"{folder} was tested on {len(tested[0]):,} of {len(run.labels):,} test images "
            f"(trainer.limit_test_batches); measured here are {len(index):,} of all "
            f"{len(run.labels):,}, as for every run",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    images, labels = run.images[index], run.labels[index]
    size = (images.shape[1], images.shape[2])
    if official:
        official.check(run.labels, size)
    (layer,) = cam.layer_names(run.network, (asked["layer"],), size)
    chosen = subset(labels, samples, seed)
    device = next(run.network.parameters()).device
    # In images through the network; an explanation is a forward and a backward pass.
    kinds = len(CORRUPTIONS) + (len(official.names) if official else 0)
    work = len(index) * (kinds * len(SEVERITIES) + 3) + len(chosen) * 57
    under_way = _UnderWay(
        run,
        images,
        labels,
        # As many as are quick; fewer where images are so large that the run was given fewer.
        min(200 if device.type == "cpu" else 1000, folder.config().data.eval_batch_size),
        seed,
        progress,
        progress.add_task("maps", total=work),
    )

    logits, maps = under_way.explained(layer, asked["method"])
    probabilities = logits.softmax(dim=1)
    nothing = int((~probabilities.isfinite().all(dim=1)).sum())
    if nothing:
        raise UserError(
            f"run={folder}: its network gives NaN for {nothing} of {len(index)} images; the training "
            "diverged, and there is nothing to measure"
        )
    ece = MulticlassCalibrationError(len(run.classes), n_bins=15)
    measures = under_way.faithfulness(maps, chosen)

    heads = "  ".join(f"{severity:6}" for severity in SEVERITIES)
    progress.console.print(f"{'accuracy, severity':<28}{heads}", markup=False, highlight=False)

    def own(name: str) -> Callable[[int, slice], np.ndarray]:
        return lambda severity, part: corrupt(images[part], index[part], name, severity, seed)

    corruptions = {name: under_way.accuracies(name, own(name)) for name in CORRUPTIONS}
    beside: dict[str, Any] = {}
    if official:

        def filed(name: str) -> Callable[[int, slice], np.ndarray]:
            return lambda severity, part: official.images(name, severity, index[part])

        beside["cifar10c"] = {
            "corruptions": {
                name: under_way.accuracies(f"CIFAR-10-C {name}", filed(name))
                for name in official.names
            },
            "other_files": list(official.others),
        }

    record = {
        "checkpoint": checkpoint,
        "seed": seed,
        "images": len(index),
        "test_images": len(run.labels),
        "layer": layer,
        "method": asked["method"],
        "accuracy": float((probabilities.argmax(dim=1).numpy() == labels).mean()),
        "ece": float(ece(probabilities, torch.from_numpy(labels))),
        "corruptions": corruptions,
        **beside,
        "maps": measures,
        "degenerate": int((cam.map_status(maps) != cam.STATUSES.index("ok")).sum()),
        "asked": asked,
        "seconds": round(time.perf_counter() - began, 1),
        "environment": environment()
        | {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"},
    }
    _keep(
        folder,
        record,
        index=index.astype(np.int32),
        label=labels.astype(np.uint16),
        probabilities=probabilities.numpy().astype(np.float16),
        map_true=maps.numpy().astype(np.float32),
    )
    return record


@dataclass(frozen=True)
class _UnderWay:
    """A run's network and the images that it is measured on, a batch at a time, under one progress bar.

    Attributes:
        run: the network, and how images are normalized for it.
        images, labels: uint8 (n, H, W, 3), int (n,).
        batch: images that go through the network at once.
        seed: of every random choice.
        progress, task: advanced by the images that went through the network.
    """

    run: "FinishedRun"
    images: np.ndarray
    labels: np.ndarray
    batch: int
    seed: int
    progress: Progress
    task: TaskID

    def explained(self, layer: str, method: str) -> "tuple[Tensor, Tensor]":
        """Logits (n, C), and the maps (n, h, w) of the true classes."""
        import torch

        from augcam.explain.cam import GradCAM

        logits, maps = [], []
        with GradCAM(self.run.network, layers=(layer,), method=method) as explain:
            for part in self._parts():
                inputs = self.run.normalize(self.images[part])
                explained = explain(inputs, torch.from_numpy(self.labels[part]))
                logits.append(explained.logits.cpu())
                maps.append(explained[layer].raw.cpu())
                self.progress.update(self.task, advance=3 * len(inputs))
        return torch.cat(logits), torch.cat(maps)

    def faithfulness(self, maps: "Tensor", chosen: np.ndarray) -> dict[str, Any]:
        """Insertion and deletion of the `chosen` maps and what they exceed, concentration of all."""
        import torch

        from augcam.explain.faithfulness.baselines import centre_map, shuffled
        from augcam.explain.faithfulness.concentration import concentration
        from augcam.explain.faithfulness.insertion import insertion_deletion
        from augcam.explain.faithfulness.maps import cleaned, enlarged, pixel_ranks
        from augcam.statistics.intervals import bootstrap_interval

        self.progress.update(self.task, description="insertion and deletion")
        inputs = self.run.normalize(self.images[chosen])
        cells = maps[chosen].relu().numpy()
        orders = {
            "map": cells,
            "random": shuffled(cells, self.seed),
            "centre": centre_map(inputs),
        }
        curves = insertion_deletion(
            self._predict,
            inputs,
            {
                name: pixel_ranks(enlarged(cleaned(order)[0], *inputs.shape[2:]), self.seed)
                for name, order in orders.items()
            },
            torch.from_numpy(self.labels[chosen]),
            batch=self.batch,
        )

        def summary(values: np.ndarray) -> dict[str, Any]:
            return bootstrap_interval(values, self.seed)._asdict() | {"n": len(values)}

        ours = curves["map"]
        return {
            "insertion": summary(ours.insertion),
            "deletion": summary(ours.deletion),
            "concentration": summary(concentration(maps)),
            "excess": {
                name: {
                    "insertion": summary(ours.insertion - curves[name].insertion),
                    "deletion": summary(ours.deletion - curves[name].deletion),
                }
                for name in ("random", "centre")
            },
        }

    def accuracies(self, title: str, corrupted: Callable[[int, slice], np.ndarray]) -> list[float]:
        """Accuracy at each severity of what `corrupted` makes of a part of the images."""
        from augcam.data.cifar10c import SEVERITIES

        self.progress.update(self.task, description=title)
        found = []
        for severity in SEVERITIES:
            right = 0
            for part in self._parts():
                answers = self._predict(self.run.normalize(corrupted(severity, part))).argmax(dim=1)
                right += int((answers.cpu().numpy() == self.labels[part]).sum())
            found.append(right / len(self.labels))
        line = "  ".join(f"{accuracy:6.1%}" for accuracy in found)
        self.progress.console.print(f"{title:<28}{line}", markup=False, highlight=False)
        return found

    def _predict(self, inputs: "Tensor") -> "Tensor":
        self.progress.update(self.task, advance=len(inputs))
        return self.run.predict(inputs)

    def _parts(self) -> Iterator[slice]:
        starts = range(0, len(self.labels), self.batch)
        return (slice(start, start + self.batch) for start in starts)


def _keep(folder: RunFolder, record: dict[str, Any], **arrays: np.ndarray) -> None:
    """Write both files; whoever sees the JSON has the arrays that belong to it."""
    folder.evaluation_file.unlink(missing_ok=True)
    with atomic_file(folder.evaluation_arrays) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_atomically(folder.evaluation_file, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _asked(
    folder: RunFolder,
    n: int,
    samples: int,
    seed: int,
    checkpoint: Checkpoint,
    official: "Cifar10C | None",
) -> dict[str, Any]:
    """What an evaluation depends on: with all of it the same, another would give the same.

    Raises:
        UserError: not a run folder, or no such checkpoint.
    """
    explain = folder.config().explain
    path = folder.last if checkpoint == "last" else folder.best
    if not path.is_file():
        raise UserError(f"run={folder}: there is no {path.name} yet; has an epoch ended?")
    with path.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "n": n,
        "samples": samples,
        "seed": seed,
        "checkpoint": checkpoint,
        "layer": explain.layer,
        "method": explain.method,
        "weights": weights,
        **({"cifar10c": official.digest} if official else {}),
    }
