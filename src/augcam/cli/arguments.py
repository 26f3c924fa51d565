"""`key=value` arguments of the commands that do without Hydra -> a pydantic model."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar, get_origin

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from augcam.config.build import trust_given
from augcam.errors import UserError, nearest, shown

Options = TypeVar("Options")


def _at_home(path: Path) -> Path:
    """With `~` as the home folder; unlike Path's own, it leaves a `~name` that is nobody's."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


# A shell leaves the ~ of `key=~/folder` to the program.
GivenPath = Annotated[Path, AfterValidator(_at_home)]

# What every command that opens a finished run takes beside its folder.
DataRoot = Annotated[
    GivenPath | None,
    Field(alias="data.root", description="where the run's data are, if not where they were"),
]


def options(schema: type[Options], arguments: Sequence[str], usage: str) -> Options:
    """`key=value` arguments as an instance of a pydantic model, for the commands without Hydra.

    `--help` prints `usage` and the model's fields with their descriptions and defaults, and exits.
    `trust=mypackage`, which a run with a network or a transform of one's own needs, is taken by every
    command: a run folder itself can let nothing in.

    Raises:
        UserError: an unknown key, or a value of the wrong type or range; all at once.
    """
    from augcam.config.schema import in_words

    assert issubclass(schema, BaseModel)
    fields = {field.alias or name: field for name, field in schema.model_fields.items()}
    if {"-h", "--help"} & set(arguments):
        print(usage.strip(), "\n")
        for name, field in fields.items():
            default = (
                "" if field.is_required() or field.default in (None, ()) else f" [{field.default}]"
            )
            print(f"  {name + '=':<14}{field.description}{default}")
        print(f"  {'trust=':<14}packages of your own that the run's config may name")
        sys.exit(0)
    arguments = trust_given(arguments)
    problems = [f"{shown(a)}: write key=value" for a in arguments if "=" not in a]
    pairs = [argument.split("=", 1) for argument in arguments if "=" in argument]
    problems += [
        f"{shown(key)}: there is no such key; {nearest(key, fields)}"
        for key, _ in pairs
        if key not in fields
    ]
    values = {key: value for key, value in pairs if key in fields}
    parsed = None
    try:
        # Lists as in Hydra: a,b or [a,b]; everything else is what pydantic makes of the text.
        parsed = schema.model_validate(
            {
                key: _listed(value) if get_origin(fields[key].annotation) is tuple else value
                for key, value in values.items()
            }
        )
    except ValidationError as error:
        problems += in_words(error)
    if problems or parsed is None:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return parsed


def folders_and_options(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Arguments taken apart: folders, and `key=value`.

    A sweep's folders are named aug=none,seed=1: what exists is a folder, not an option.
    """
    folders = [a for a in arguments if a[:1] != "-" and ("=" not in a or Path(a).is_dir())]
    rest = [a for a in arguments if a not in folders]
    return [_at_home(Path(folder)) for folder in folders], rest


def _listed(value: str) -> list[str]:
    return value.strip("[]").split(",")
