"""What every command shares: errors in one to three lines, and exit statuses.

Exit status 0: done; 1: the run failed; 2: the request was wrong; 130 and 143: stopped by Ctrl-C
and SIGTERM.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from augcam.errors import explained


@contextmanager
def reported() -> Iterator[None]:
    """Turn what goes wrong inside into a message on stderr and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if any(argument.lower() == "debug=true" for argument in sys.argv[1:]):
            traceback.print_exc()
        message, status = explained(error)
        sys.stdout.flush()
        print(message, file=sys.stderr)
        sys.exit(status)
