"""`augcam COMMAND`: the console script. Imports the command that is asked for and nothing else."""

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "train": "train one classifier, or with -m a sweep of them",
    "preview": "what augmentation pipelines do to images, before time is spent on them",
    "explain": "what a run's network gets right and wrong, and where it looks",
    "evaluate": "robustness, calibration and map statistics of a run, for the report",
    "audit": "what the network recognises each class by: the object, or what comes with it",
    "report": "compare runs on one page",
    "refine": "spare the classes that an augmentation hurts, and confirm that it helps",
    "board": "TensorBoard on this machine, with every picture of a run",
}

# Those that write into out=DIR.
TAKES_OUT = ("preview", "report", "refine")

_USAGE = """
AugCAM: what each image augmentation does to a classifier - to its accuracy, class by class, and to
where it looks.

  augcam COMMAND ...          augcam COMMAND --help says more

{commands}

  augcam --version
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; exits with 2 where there is none of that name."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in ("-h", "--help"):
        lines = [f"  {name:<10}{what}" for name, what in COMMANDS.items()]
        print(_USAGE.strip().format(commands="\n".join(lines)))
    elif command in ("-V", "--version"):
        from augcam import __version__

        print(__version__)
    elif command in COMMANDS:
        from augcam.cli.errors import reported

        with reported("out=DIR" if command in TAKES_OUT else ""):
            import_module(f"augcam.cli.{command}").main(rest)
    else:
        from augcam.errors import nearest, shown

        print(f"augcam: {shown(command)}: unknown; {nearest(command, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
