"""`python -m augcam COMMAND`, where the console script `augcam` is not on the path."""

import sys

from augcam.cli.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
