"""Train one classifier, or a sweep of them.

python train.py aug=cutout_rotate trainer.max_epochs=35
python train.py run=outputs/2026-11-21_12-00-00_cutout_3fa9c1    # go on with a stopped run
python train.py --help
"""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from augcam.cli.errors import reported
from augcam.cli.train import continue_run, help_text, single_run
from augcam.sweeps.arguments import sweep_arguments
from augcam.sweeps.job import sweep_job


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float | None:
    """Train as the composed config says; the validation accuracy is what a sweeper maximises."""
    job = HydraConfig.get()
    folder = job.runtime.output_dir
    with (
        sweep_job(Path(folder))
        if job.mode == RunMode.MULTIRUN
        else single_run(folder, continued=job.output_subdir is None)
    ):
        from augcam.config.schema import validate

        checked = validate(config)  # before torch is imported: a wrong value is told at once
        from augcam.cli.train import train_in_hydra_folder

        return train_in_hydra_folder(config, checked)
    return None  # a sweep's job that failed


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing its own
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(Path(__file__).parent / "conf"))
        sys.exit()
    with reported():
        sys.argv[1:] = sweep_arguments(continue_run(sys.argv[1:]))
        main()
