"""`python -m augcam.evaluate`, the earlier spelling of `augcam evaluate`."""

import sys

from augcam.cli.errors import reported
from augcam.cli.evaluate import main

if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
