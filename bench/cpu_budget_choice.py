"""How the batch size and the rate of `experiment=cpu_budget` are chosen: on held-out training images.

    python bench/cpu_budget_choice.py outputs/choice    # hours on two cores; started again, it goes on
    python bench/results.py keep choice outputs/choice
    python bench/results.py

Nine epochs of the recipe on a fifth of its images; each pair of a batch size
and a peak rate is judged on 10,000 other training images. The test set decides nothing: each run tests
at its end, as every run does, on a few images, and the table does not show it.
"""

import sys

from sweeps import sweeps

from augcam.cli.errors import reported

BUDGET = (
    "experiment=cpu_budget data.holdout=40000 trainer.max_epochs=9 trainer.check_val_every_n_epoch=9 "
    "trainer.limit_val_batches=20 trainer.limit_test_batches=1 "
    "explain.images=0 preview.samples=0 trainer.accelerator=cpu"
)
SEEDS = "seed=1,2"
BATCH_SIZES = (32, 64, 128)
RATES = (0.05, 0.1, 0.2)
CHANGES = {
    f"batch{size}_lr{rate:g}": f"data.batch_size={size} optim.lr={rate:g}"
    for size in BATCH_SIZES
    for rate in RATES
}

RECIPE = "batch64_lr0.1"  # what conf/experiment/cpu_budget.yaml has


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with reported():
        sys.exit(sweeps(BUDGET, SEEDS, CHANGES, sys.argv[1]))
