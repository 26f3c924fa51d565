"""`python -m augcam.preview`, the earlier spelling of `augcam preview`."""

import sys

from augcam.cli.errors import reported
from augcam.cli.preview import main

if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])
