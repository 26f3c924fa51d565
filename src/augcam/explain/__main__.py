"""`python -m augcam.explain`, the earlier spelling of `augcam explain`."""

import sys

from augcam.cli.errors import reported
from augcam.cli.explain import main

with reported():
    main(sys.argv[1:])
