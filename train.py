"""Train one classifier, or a sweep of them.

python train.py aug=cutout_rotate trainer.max_epochs=35
python train.py run=outputs/2026-11-21_12-00-00_cutout_3fa9c1    # go on with a stopped run
python train.py --help
"""

import os
import sys
from contextlib import nullcontext

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from augcam.cli import continue_run, discarded_if_refused, register_resolvers, reported


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float | None:
    """Train as the composed config says; the validation accuracy is what a sweeper maximises."""
    job = HydraConfig.get()
    # A sweep goes on after a job that fails, so there Hydra must see the exception.
    in_words = nullcontext() if job.mode == RunMode.MULTIRUN else reported()
    with (
        in_words,
        discarded_if_refused(job.runtime.output_dir, continued=job.output_subdir is None),
    ):
        from augcam.config import validate

        checked = validate(config)  # before torch is imported: a wrong value is told at once
        from augcam.training import train_in_hydra_folder

        return train_in_hydra_folder(config, checked)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing its own
    register_resolvers()
    with reported():
        sys.argv[1:] = continue_run(sys.argv[1:])
        main()
