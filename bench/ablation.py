"""What each part of the flagship recipe is worth, on a budget that a CPU can pay.

    python bench/ablation.py outputs/ablation        # an hour on two cores; started again, it goes on
    python bench/results.py keep ablation outputs/ablation
    python bench/results.py

The flagship's 35 epochs of ResNet18 on 50,000 images need a GPU. Here a ResNet10 of width 16 trains for
20 epochs on 5,000 images. Each change takes one part away, exchanges one or adds one, and is judged on
20,000 images held out of the training set, not on the test set. Two changes run at a time, one core
each.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]

BUDGET = (
    "experiment=flagship model=resnet10 data.holdout=45000 trainer.max_epochs=20 "
    "trainer.check_val_every_n_epoch=20 trainer.limit_val_batches=40 explain.images=0 "
    "preview.samples=0 trainer.accelerator=cpu"
)
SEEDS = "seed=1,2,3"

# What is changed, and how; the first is the recipe itself.
CHANGES = {
    "flagship": ("the recipe", ""),
    "no_crop": ("without the shift by 4 pixels", "~aug.crop"),
    "no_flip": ("without the flip", "~aug.flip"),
    "coin_flip": ("a coin in place of the alternating flip", "aug/op@aug.flip=flip"),
    "no_cutout": ("without cutout", "~aug.cutout"),
    "hard_labels": ("without label smoothing", "loss.label_smoothing=0"),
    "decay_all": ("weight decay on BatchNorm and biases too", "optim.decay_norm_and_bias=true"),
    "cosine": ("cosine from the peak in place of OneCycle", "scheduler=cosine"),
    "whitened": ("with a whitened first layer", "model.whiten=true"),
    "no_nesterov": ("plain momentum in place of Nesterov's", "optim.nesterov=false"),
}


def sweep(key: str, folder: str) -> int:
    """One change over the seeds; runs that have finished are skipped. The exit status."""
    _, change = CHANGES[key]
    command = [
        sys.executable, str(ROOT / "train.py"), "-m", *BUDGET.split(), SEEDS, *change.split(),
        f"name={key}", f"sweep.dir={folder}/{key}",
    ]  # fmt: skip
    with Path(folder, f"{key}.log").open("a") as log:
        print(" ".join(command[1:]), file=log, flush=True)
        one_core = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, stdout=log, stderr=log, env=one_core, check=False).returncode


def main(folder: str) -> int:
    """Every change. 1 if one of them failed, else 0."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        # As a list: every change gets its turn, also after one that failed.
        statuses = list(pool.map(lambda key: sweep(key, folder), CHANGES))
    return int(any(statuses))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
