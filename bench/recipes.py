"""The rows of docs/results.md: what is run for each, and what others report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONF = Path(__file__).parents[1] / "conf"


@dataclass(frozen=True)
class Recipe:
    """One row of the table: what is passed to train.py, and what others report.

    `theirs` are test accuracies (%) after each of the first epochs, as the reference's log has them;
    `best` is the best of all epochs, and its epoch.
    """

    key: str
    title: str
    overrides: str
    reported: str
    epochs: int
    theirs: Sequence[float] = ()
    best: str = ""
    note: str = ""

    @property
    def full_title(self) -> str:
        """The title, and what a reader of the table has to know."""
        return f"{self.title}; {self.note}" if self.note else self.title

    @property
    def command(self) -> str:
        """As it is typed."""
        return f"python train.py {self.overrides}"

    def is_available(self) -> bool:
        """Whether conf/ has every choice that it names."""
        choices = (word.split("=", 1) for word in self.overrides.split())
        return all(
            (CONF / group / f"{choice}.yaml").is_file()
            for group, choice in choices
            if "." not in group
        )


RECIPES = (
    Recipe("seed_c", "C: rotate and flip", "experiment=seed/c",
           "87.21 (jai-mr/Assignment-9)", 15,
           theirs=(64, 72, 78, 78, 81), best="87.2 (15)", note="from PyTorch's default weights"),
    Recipe("seed_d", "D: colour, flip, rotate, cutout", "experiment=seed/d",
           "92.14 best, 92.06 last (uday96/EVA4-TSAI)", 35,
           theirs=(55, 67, 71, 73, 70), best="92.1 (33)", note="from PyTorch's default weights"),
    Recipe("seed_e", "E: flip, rotate, exposure, cutout", "experiment=seed/e",
           "91.57 in the text, 90.35 best and 89.41 last in the log "
           "(AkhilP9182/EVA5---Extensive-Vision-AI)",
           35, theirs=(57, 67, 74, 75, 76), best="90.4 (33)"),
    Recipe("cutout_rotate", "cutout_rotate",
           "aug=cutout_rotate trainer.max_epochs=35",
           "93.02, in users' reruns 95.67 (kuangliu/pytorch-cifar: crop and flip, 200 epochs)", 35),
    Recipe("paper_crop_flip", "paper: crop and flip",
           "experiment=paper/cutout aug=crop_flip",
           "95.28 (DeVries and Taylor, n = 5)", 200),
    Recipe("paper_crop_flip_cutout", "paper: with cutout",
           "experiment=paper/cutout",
           "96.01 (DeVries and Taylor, n = 5)", 200),
    Recipe("flagship", "flagship", "experiment=flagship", "", 35),
    Recipe("mixup", "crop, flip and mixup", "aug=crop_flip mix=mixup trainer.max_epochs=35",
           "95.70 after 200 epochs (openmixup)", 35),
    Recipe("cutmix", "crop, flip and cutmix", "aug=crop_flip mix=cutmix trainer.max_epochs=35",
           "96.11 after 200 epochs (openmixup)", 35),
    Recipe("trivialaugment", "crop, flip and TrivialAugment",
           "aug=crop_flip_trivialaugment trainer.max_epochs=35", "", 35),
    Recipe("cpu_budget", "cpu_budget: ResNet10 of width 48, 2.8 million parameters",
           "experiment=cpu_budget", "", 10),
)  # fmt: skip
BY_KEY = {recipe.key: recipe for recipe in RECIPES}
