"""`python -m augcam.report`, the earlier spelling of `augcam report`."""

import sys

from augcam.cli.errors import reported
from augcam.cli.report import main

with reported():
    main(sys.argv[1:])
