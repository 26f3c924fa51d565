"""What each part of the flagship recipe is worth, on a budget that a CPU can pay.

    python bench/ablation.py outputs/ablation        # hours on two cores; started again, it goes on
    python bench/results.py keep ablation outputs/ablation
    python bench/results.py

The flagship's 35 epochs of ResNet18 on 50,000 images need a GPU. Here a ResNet10 of width 16 trains for
20 epochs on 5,000 images. Each change takes one part away, exchanges one or adds one, and is judged on
20,000 images held out of the training set, not on the test set. Two changes run at a time, one core
each.
"""

import sys

from sweeps import sweeps

from augcam.cli.errors import reported

BUDGET = (
    "experiment=flagship model=resnet10 data.holdout=45000 trainer.max_epochs=20 "
    "trainer.check_val_every_n_epoch=20 trainer.limit_val_batches=40 explain.images=0 "
    "preview.samples=0 trainer.accelerator=cpu trainer.precision=32-true"
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
    "ema": (
        "with an average of the weights, its memory 50 steps",
        "callbacks=[ema] callbacks.ema.decay=0.98",
    ),
    "lookahead": (
        "with Lookahead (every 5 steps, half the way)",
        "trust=[bench] +callbacks.lookahead._target_=bench.candidates.Lookahead",
    ),
    "resizing": (
        "images of 24 pixels in the first half of the epochs",
        "trust=[bench] +callbacks.resizing._target_=bench.candidates.ProgressiveResizing",
    ),
    "mixup": ("with mixup", "mix=mixup"),
    "cutmix": ("with cutmix", "mix=cutmix"),
    "trivialaugment": (
        "TrivialAugment in place of cutout",
        "~aug.cutout +aug/op@aug.policy=trivialaugment",
    ),
}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with reported():
        changes = {key: change for key, (_, change) in CHANGES.items()}
        sys.exit(sweeps(BUDGET, SEEDS, changes, sys.argv[1]))
