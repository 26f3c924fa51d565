"""`augcam explain model=... weights=FILE`: where a classifier looks that was not trained here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from rich import get_console

from augcam.cli.arguments import GivenPath, options
from augcam.config.build import trust
from augcam.config.compose import compose
from augcam.config.model import IMAGENET_MEAN, IMAGENET_STD
from augcam.config.schema import Config, validate
from augcam.errors import UserError, nearest
from augcam.viz.markdown import plain
from augcam.viz.page import Page, write_html

USAGE = """
Explain a classifier that was not trained here: your pictures, the likeliest classes, and what speaks for
each. The network is that of the model keys, as train.py takes them; all of FILE's weights must fit it.
Its first layers are its library's for images of any size; model.stem=cifar is for weights of a run of 64
pixels or less.

  augcam explain model=torchvision model.arch=resnet50 weights=resnet50.pth images='photos/*.jpg'
"""

Channel = tuple[float, float, float]


class Options(BaseModel):
    """What can be asked of a classifier of which there is no run."""

    model_config = ConfigDict(extra="forbid")

    weights: Annotated[GivenPath, Field(description="a state dict, a checkpoint or safetensors")]
    images: Annotated[str, Field(description="your pictures, a path with * and ?")]
    size: Annotated[int, Field(ge=8, le=1024, description="pixels a side that it takes")] = 224
    names: Annotated[
        GivenPath | None, Field(description="text file, a class name on each line")
    ] = None
    mean: Annotated[Channel, Field(description="of its normalisation, 0..1")] = IMAGENET_MEAN
    std: Annotated[Channel, Field(description="of its normalisation, 0..1")] = IMAGENET_STD
    layer: Annotated[str, Field(description="target layer")] = "auto"
    method: Annotated[str, Field(description="gradcam, gradcam++, hirescam, layercam")] = "gradcam"
    out: Annotated[GivenPath, Field(description="folder of the page")] = Path("outputs/explained")


def is_asked_for(arguments: Sequence[str]) -> bool:
    """Whether the arguments describe a network in place of naming a run."""
    return any(_is_of(argument, ("model",)) for argument in arguments)


def described(arguments: Sequence[str], sections: Sequence[str] = ("model",)) -> Config:
    """The config of the arguments that belong to `sections`, as train.py takes them.

    Its `trust` is let in from here on.

    Raises:
        UserError: there is no such key or choice, or a value is wrong.
    """
    given = [a for a in arguments if _is_of(a, sections)]
    trusted = [a for a in arguments if a.startswith("trust=")]
    config = validate(compose([*given, *(f"trust=[{t[6:].strip('[]')}]" for t in trusted)]))
    trust(config.trust)
    return config


def others(arguments: Sequence[str], sections: Sequence[str] = ("model",)) -> list[str]:
    """The arguments that belong to none of `sections`."""
    return [argument for argument in arguments if not _is_of(argument, sections)]


def class_names(file: Path | None) -> list[str]:
    """The lines of a file of names; none without a file. Raises UserError if it cannot be read."""
    if file is None:
        return []
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"names={file}: cannot be read ({error})") from None


def made(out: Path) -> Path:
    """The folder that is asked for. Raises UserError if it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: cannot be made ({error.strerror})") from None
    return out


def _is_of(argument: str, sections: Sequence[str]) -> bool:
    return argument.lstrip("+").startswith(tuple(f"{s}{end}" for s in sections for end in "=."))


def main(arguments: Sequence[str]) -> None:
    """Build the network, load its weights, explain the pictures, and write the page."""
    asked = options(Options, others(arguments), USAGE)

    from augcam.explain.cam import METHODS, layer_names
    from augcam.explain.pictures import own_pictures
    from augcam.runs.foreign import load_network_from_file

    if asked.method not in METHODS:
        raise UserError(f"method={asked.method}: unknown; {nearest(asked.method, METHODS)}")
    config = described(arguments)
    run = load_network_from_file(
        config,
        asked.weights,
        asked.size,
        class_names(asked.names),
        asked.mean,
        asked.std,
        asked.out,
    )
    (layer,) = layer_names(run.network, (asked.layer,), (asked.size, asked.size))
    sections, _records = own_pictures(
        run, asked.images, layer=layer, method=asked.method, out=made(asked.out) / "pictures"
    )
    summary = plain(
        f"{config.model.label}, weights of {asked.weights.name}; {asked.method} at {layer}."
    )
    page = asked.out / "index.html"
    write_html(page, Page(f"Where {config.model.label} looks", summary, sections))
    get_console().print(str(page), soft_wrap=True, markup=False, highlight=False)
