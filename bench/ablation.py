"""What each part of the flagship recipe is worth, on a budget that a CPU can pay.

    python bench/ablation.py outputs/ablation        # an hour on two cores; started again, it goes on
    python bench/results.py ablation outputs/ablation
    python bench/results.py

The flagship's 35 epochs of ResNet18 on 50,000 images need a GPU. Here a ResNet10 of width 16 trains for
30 epochs on 5,000 images: as many passes over the data, so that regularisation has something to do, at
a five-hundredth of the arithmetic. Each change takes one part away, and is judged on 20,000 images held
out of the training set, not on the test set.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

BUDGET = (
    "experiment=flagship model=resnet10 data.holdout=45000 trainer.max_epochs=30 "
    "trainer.check_val_every_n_epoch=30 trainer.limit_val_batches=40 explain.images=0 "
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
    "cutout_16": ("cutout of 16 pixels in place of 12", "aug.cutout.size=16"),
    "hard_labels": ("without label smoothing", "loss.label_smoothing=0"),
    "decay_all": ("weight decay on BatchNorm and biases too", "optim.decay_norm_and_bias=true"),
    "cosine": ("cosine from the peak in place of OneCycle", "scheduler=cosine"),
    "multistep": ("steps in place of OneCycle", "scheduler=multistep"),
    "no_nesterov": ("plain momentum in place of Nesterov's", "optim.nesterov=false"),
    "half_rate": ("half of the learning rate", "optim.lr=0.1"),
}


def main(folder: str) -> int:
    """Run every change as a sweep over seeds; finished runs are skipped. The worst exit status."""
    worst = 0
    for key, (_, change) in CHANGES.items():
        command = [sys.executable, str(ROOT / "train.py"), "-m", *BUDGET.split(), SEEDS,
                   *change.split(), f"name={key}", f"sweep.dir={folder}/{key}",
                   "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]  # fmt: skip
        print("\n" + " ".join(command[1:]), flush=True)
        worst = max(worst, subprocess.run(command, check=False).returncode)
    return worst


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
