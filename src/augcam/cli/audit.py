"""`augcam audit`: is the evidence of each class where it should be?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field
from rich import get_console
from rich.progress import Progress

from augcam.atomic import remove_leftovers, write_atomically
from augcam.cli import foreign
from augcam.cli.arguments import DataRoot, GivenPath, options
from augcam.cli.errors import for_each_run
from augcam.config.model import IMAGENET_MEAN, IMAGENET_STD
from augcam.errors import UserError
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars
from augcam.viz.words import listed

if TYPE_CHECKING:
    import albumentations as A
    from torch import nn

    from augcam.audit.advice import Steps
    from augcam.data.datasets.base import ImageSet

USAGE = """
Ask of each class whether the network goes by the object or by what merely comes with it: parts and
properties of its images are put into images of other classes, and what makes the network say the class
there is named. Writes DIR/audit.html, a page with pictures of each verdict and every image, and
DIR/audit.json. docs/audit.md has the verdicts' meaning and their error rates.

  augcam audit run=DIR
  augcam audit run=SWEEP             every finished run of a sweep: augcam report then says which
                                     augmentation leaves which class without a shortcut
  augcam audit run=DIR n=2000        more of the test images

A classifier that was not trained here, on images that it has not seen (model=... --help says more):

  augcam audit model=torchvision model.arch=resnet18 weights=FILE data=folder data.root=~/photos \\
      data.image_size=224
"""

FOREIGN_USAGE = """
Audit a classifier that was not trained here. The network is that of the model keys, and the test images
are those of the data keys, both as train.py takes them; all of FILE's weights must fit. Its first layers
are its library's for images of any size; model.stem=cifar is for weights of a run of 64 pixels or less.
The network's classes are the images', in their order; where they are not, names=FILE has a line for each
of the network's, and the answer is the likeliest of those that the images have. Writes audit.html and
audit.json into outputs/audited.

  augcam audit model=torchvision model.arch=resnet50 weights=FILE data=folder data.root=~/photos \\
      data.image_size=224 names=imagenet.txt
"""

# What describes the network and its images, where there is no run.
_SECTIONS = ("model", "data")


class Asked(BaseModel):
    """What can be asked of every audit."""

    model_config = ConfigDict(extra="forbid")

    n: Annotated[int, Field(ge=50, description="test images, or all if there are fewer")] = 1000
    seed: Annotated[int, Field(ge=0, description="of every random choice")] = 0


class Options(Asked):
    """What `augcam audit` can be asked for."""

    run: Annotated[GivenPath, Field(description="folder of the run, or of a sweep")]
    data_root: DataRoot = None


class ForeignOptions(Asked):
    """What can be asked of a classifier of which there is no run."""

    weights: Annotated[GivenPath, Field(description="a state dict, a checkpoint or safetensors")]
    names: Annotated[
        GivenPath | None, Field(description="text file, a class name on each line")
    ] = None
    mean: Annotated[foreign.Channel, Field(description="of its normalisation, 0..1")] = (
        IMAGENET_MEAN
    )
    std: Annotated[foreign.Channel, Field(description="of its normalisation, 0..1")] = IMAGENET_STD
    out: Annotated[GivenPath, Field(description="folder of the page")] = Path("outputs/audited")


def main(arguments: Sequence[str]) -> None:
    """Audit the network that was asked for, keep the verdicts and print them.

    Raises:
        UserError: no such network, run or images; nothing can be written there, or another audit works
            there.
    """
    if foreign.is_asked_for(arguments):
        _audit_file(arguments)
    else:
        asked = options(Options, arguments, USAGE)
        for_each_run(asked.run, lambda folder: _audit_run(asked, folder), asked.data_root)


@dataclass(frozen=True)
class _Audited:
    """A network, its images, and what the page says of them.

    Attributes:
        network, images, class_names, mean, std, transforms: as `augcam.audit.audit` takes them.
        title, about: plain texts.
        recorded, pipeline: as `write_audit_page` takes them; those of a network that was not trained
            here are not known.
    """

    network: "nn.Module"
    images: "ImageSet"
    class_names: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    title: str
    about: str
    transforms: "Mapping[str, A.DualTransform]" = field(default_factory=dict)
    recorded: Sequence[str] | None = None
    pipeline: "Steps" = field(default_factory=dict)


def _audit_run(asked: Asked, folder: RunFolder) -> None:
    config = folder.config()  # is it a run at all? before torch is imported
    folder.require_writable()

    from augcam.audit.stability import geometric
    from augcam.data.datasets.base import ImageSet
    from augcam.runs.build import build_run_pipeline
    from augcam.runs.finished_run import open_run, run_source

    with folder.locked("audit"), progress_bars() as progress:
        run = open_run(folder, "last", progress)
        source = run_source(folder)
        audited = _Audited(
            run.network,
            ImageSet(run.images, run.labels, run.masks),
            run.classes,
            source.mean,
            source.std,
            title=f"What {config.name} recognises each class by",
            about=f"{config.model.label} on {config.data.label}",
            transforms=geometric(build_run_pipeline(config, source).transforms),
            recorded=folder.overrides(),
            pipeline=config.aug,
        )
        _audit(asked, folder, audited, progress)


def _audit_file(arguments: Sequence[str]) -> None:
    asked = options(ForeignOptions, foreign.others(arguments, _SECTIONS), FOREIGN_USAGE)
    config = foreign.described(arguments, _SECTIONS)
    names = foreign.class_names(asked.names)

    from augcam.runs.build import build_source
    from augcam.runs.foreign import answer_among, load_network_from_file

    source = build_source(config)
    source.prepare()
    test = source.test()
    run = load_network_from_file(
        config, asked.weights, test.images.shape[1], names, asked.mean, asked.std, asked.out
    )
    if not names and len(run.classes) != len(source.classes):
        raise UserError(
            f"weights={asked.weights}: {len(run.classes)} classes, but the images have "
            f"{len(source.classes)}; names=FILE says which is which, a line for each of the network's"
        )
    if missing := [name for name in source.classes if names.count(name) != 1 and names]:
        raise UserError(f"names={asked.names}: must have {listed(missing)} once, as the images do")
    if names:
        answer_among(run.network, [names.index(name) for name in source.classes])
    audited = _Audited(
        run.network,
        test,
        source.classes,
        asked.mean,
        asked.std,
        title=f"What {config.model.label} recognises each class by",
        about=f"{config.model.label}, weights of {asked.weights.name}, on {config.data.label}",
    )
    folder = RunFolder(foreign.made(asked.out))
    folder.require_writable()
    with folder.locked("audit"), progress_bars() as progress:
        _audit(asked, folder, audited, progress)


def _audit(asked: Asked, folder: RunFolder, audited: _Audited, progress: Progress) -> None:
    """The audit itself: its JSON, its page, and the verdicts on the terminal."""
    from augcam.audit import audit
    from augcam.audit.page import write_audit_page
    from augcam.audit.words import sentence

    task = progress.add_task("images through the network", total=None)
    result = audit(
        audited.network,
        audited.images,
        class_names=audited.class_names,
        mean=audited.mean,
        std=audited.std,
        seed=asked.seed,
        transforms=audited.transforms,
        images=asked.n,
        progress=lambda count: progress.advance(task, count),
    )
    write_atomically(folder.audit_file, json.dumps(result.to_json(), indent=1) + "\n")
    remove_leftovers(folder.audit)
    summary = (
        f"{audited.about}, {result.settings['images']:,} test images, "
        f"{result.settings['accuracy']:.1%} of them correct."
    )
    write_audit_page(
        folder.audit_page,
        folder.audit,
        result,
        title=audited.title,
        summary=summary,
        recorded=audited.recorded,
        pipeline=audited.pipeline,
    )
    console = get_console()
    size = result.subject.size
    for line in [*(sentence(one, size) for one in result.classes), str(folder.audit_page)]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
