"""`key=value` of the commands without Hydra."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, get_type_hints

import pytest
from pydantic import BaseModel, ConfigDict, Field

from augcam.cli.arguments import GivenPath, folders_and_options, options
from augcam.config.build import trusted_packages
from augcam.errors import UserError


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    run: Annotated[str, Field(description="whose")]
    n: Annotated[int, Field(ge=10, description="how many")] = 100
    layers: Annotated[tuple[str, ...], Field(description="which")] = ()
    out: Annotated[GivenPath | None, Field(description="where to")] = None


def test_numbers_are_read_and_lists_as_in_hydra():
    asked = options(Wanted, ["run=outputs/a=b", "n=16", "layers=[layer3,layer4]"], "")
    assert asked == Wanted(run="outputs/a=b", n=16, layers=("layer3", "layer4"))
    assert options(Wanted, ["run=r", "layers=layer3"], "").layers == ("layer3",)


@pytest.mark.parametrize("text", ["???", "${HOME}", "${", "[a]", "null", "1"])
def test_a_text_is_what_was_written(text):
    assert options(Wanted, [f"run={text}"], "").run == text


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(UserError) as refused:
        options(Wanted, ["n=1", "layer=layer4", "loose"], "")
    assert str(refused.value).splitlines() == [
        "loose: write key=value",
        "layer: there is no such key; did you mean layers?",
        "run: must be given",
        "n=1: should be greater than or equal to 10",
    ]


def test_help_is_the_usage_and_the_fields_with_their_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        options(Wanted, ["--help"], "How to use it.")
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "How to use it."
    assert "  run=          whose" in lines
    assert "  n=            how many [100]" in lines


def test_packages_of_ones_own_are_let_in_by_every_command(monkeypatch):
    monkeypatch.setattr("augcam.config.build._trusted", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert options(Wanted, ["run=r", "trust=[mine,theirs.too]"], "") == Wanted(run="r")
    assert trusted_packages() == {"mine", "theirs.too"}


def test_a_path_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert options(Wanted, ["run=r", "out=~/maps"], "").out == tmp_path / "maps"
    assert options(Wanted, ["run=r", "out=~nobody-of-that-name/x"], "").out == Path(
        "~nobody-of-that-name/x"
    )
    assert folders_and_options(["~/runs", "n=16"]) == ([tmp_path / "runs"], ["n=16"])


@pytest.mark.parametrize("command", ["audit", "evaluate", "explain", "foreign", "refine", "report"])
def test_so_may_every_path_of_every_command(command):
    module = import_module(f"augcam.cli.{command}")
    kinds = [one for one in vars(module).values() if isinstance(one, type)]
    schemas = [one for one in kinds if issubclass(one, BaseModel)]
    assert schemas
    for schema in schemas:
        for name, annotation in get_type_hints(schema, include_extras=True).items():
            if "Path" in str(annotation):
                assert "_at_home" in str(annotation), name
