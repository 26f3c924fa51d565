"""How much memory a run takes on a folder of 50,000 photographs of 500x375 pixels.

    python bench/big_folder.py WORK                         # 50,000 images, 60 steps of a ResNet18
    python bench/big_folder.py WORK --images 10000 --steps 50 --workers 2

In WORK, 200 distinct JPEG files are made from noise and gradients, and linked under distinct names
in ten classes, so that every image is listed, decoded and stored as if all were different. Then one
run trains at 224 pixels, its images decoded into a cache file, as `data=folder` does. What is reported
is the largest resident memory of one process: the run's, or a loader worker's. Pages of the cache file
that the kernel keeps in memory belong to no process and count for none.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _timing import ROOT, machine
from PIL import Image

CLASSES, DISTINCT = 10, 200


def make(folder: Path, images: int) -> None:
    """`images` JPEG files of 500x375 pixels in ten classes."""
    random = np.random.default_rng(0)
    drawn = folder.with_name("drawn")
    drawn.mkdir(parents=True, exist_ok=True)
    across = np.linspace(0, 200, 500)[None, :, None]
    for number in range(DISTINCT):
        tint = random.integers(0, 40, (1, 1, 3))
        noise = random.integers(0, 15, (375, 500, 3))
        picture = (across + tint + noise).astype(np.uint8)
        Image.fromarray(picture).save(drawn / f"{number}.jpg", quality=90)
    for number in range(images):
        target = folder / f"class{number % CLASSES}" / f"{number:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(drawn / f"{number % DISTINCT}.jpg", target)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    work = asked.work.absolute()
    make(work / "photos", asked.images)
    began = time.perf_counter()
    command = [
        sys.executable, str(ROOT / "train.py"), "data=folder", f"data.root={work / 'photos'}",
        f"data.cache={work / 'cache'}", "data.image_size=224", "data.batch_size=32",
        "model=torchvision", "model.arch=resnet18",
        f"data.num_workers={asked.workers}", "trainer.max_epochs=1", "aug=crop_flip",
        f"trainer.limit_train_batches={asked.steps}", "trainer.limit_val_batches=10",
        "trainer.limit_test_batches=10", f"hydra.run.dir={work / 'run'}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{asked.images:,} images, {asked.steps} steps, {asked.workers} workers; {machine()}")
    print(f"largest resident memory of a process: {peak:.2f} GiB; {seconds:.0f} s with decoding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
