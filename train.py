"""Train one classifier, or a sweep of them.

python train.py aug=cutout_rotate trainer.max_epochs=35
python train.py run=outputs/2026-11-21_12-00-00_cutout_3fa9c1    # go on with a stopped run
python train.py --help
"""

import sys

from augcam.cli.train import main

if __name__ == "__main__":
    main(sys.argv[1:])
