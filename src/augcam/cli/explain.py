"""`augcam explain`: where a run's network looks, from its folder alone.

torch and what needs it are imported late: a wrong request is answered in a second.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from rich import get_console

from augcam.atomic import remove_leftovers, write_atomically
from augcam.cli import foreign
from augcam.cli.arguments import DataRoot, GivenPath, options
from augcam.errors import UserError, nearest
from augcam.explain.faithfulness import CHECKS
from augcam.runs.run_folder import RunFolder
from augcam.viz.markdown import bullets, plain
from augcam.viz.page import Page, Section, write_html
from augcam.viz.terminal import progress_bars, quiet_event_writer

if TYPE_CHECKING:
    from augcam.runs.finished_run import FinishedRun

USAGE = """
Explain a finished (or interrupted) run: what its network gets right and wrong on the test set, and
where it looks. Writes PNG figures, a page and a JSON into DIR/explain/ - one each for galleries, your
pictures and the check, and index.html, which leads to them - and the pictures into TensorBoard.

  augcam explain run=DIR
  augcam explain run=DIR images='photos/*.jpg'     your own pictures
  augcam explain run=DIR classes=cat,dog n=25      two classes alone, more images
  augcam explain run=DIR check=all                 is the map true? minutes on a CPU

A classifier that was not trained here, from a file of its weights (model.arch=NAME --help says more):

  augcam explain model=torchvision model.arch=resnet50 weights=FILE images='photos/*.jpg'
"""


class Options(BaseModel):
    """What `augcam explain` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[GivenPath, Field(description="folder of the run")]
    images: Annotated[str | None, Field(description="your own pictures, a path with * and ?")] = (
        None
    )
    n: Annotated[int, Field(ge=1, le=100, description="images of each gallery")] = 8
    layers: Annotated[
        tuple[str, ...],
        Field(description="target layers; a ResNet's stages, or auto, if not given"),
    ] = ()
    method: Annotated[str, Field(description="gradcam, gradcam++, hirescam, layercam")] = "gradcam"
    classes: Annotated[tuple[str, ...], Field(description="true classes; all if not given")] = ()
    checkpoint: Annotated[Literal["last", "best"], Field(description="whose weights")] = "last"
    check: Annotated[
        tuple[str, ...],
        Field(description=f"all, or some of {', '.join(CHECKS)}"),
    ] = ()
    samples: Annotated[int, Field(ge=10, description="test images that the checks use")] = 200
    seed: Annotated[int, Field(ge=0, description="of every random choice")] = 0
    data_root: DataRoot = None


# What can be asked for, each a page and a JSON of its own: one does not overwrite the other.
PARTS = {
    "check": "Is the map true?",
    "pictures": "Your own pictures",
    "galleries": "What it gets right and wrong",
}


def main(arguments: Sequence[str]) -> None:
    """Open the run, explain what was asked for, and write the pages, the JSON and TensorBoard."""
    if foreign.is_asked_for(arguments):
        foreign.main(arguments)
        return
    asked = options(Options, arguments, USAGE)

    from augcam.explain.cam import METHODS, GradCAM, layer_names, page_layers
    from augcam.explain.faithfulness.check import check_run
    from augcam.explain.faithfulness.section import faithfulness_section, means_table
    from augcam.explain.faithfulness.verdict import verdict
    from augcam.explain.gallery import galleries
    from augcam.explain.pictures import own_pictures
    from augcam.runs.finished_run import open_run

    if asked.method not in METHODS:
        raise UserError(f"method={asked.method}: unknown; {nearest(asked.method, METHODS)}")
    folder = RunFolder(asked.run)
    folder.data_root = asked.data_root
    folder.config()  # not a run folder: refused before anything is written there
    folder.require_writable()
    out = folder.explanations
    with folder.locked("explain"), progress_bars() as progress:
        remove_leftovers(out)
        run = open_run(folder, asked.checkpoint, progress)
        size = (run.images.shape[1], run.images.shape[2])
        layers = layer_names(run.network, asked.layers, size) or page_layers(run.network, size)
        asked = asked.model_copy(update={"layers": layers})
        with GradCAM(run.network, layers=layers) as cam:
            cam(run.normalize(run.images[:1]))  # an impossible layer is refused before any work
        out.mkdir(exist_ok=True)
        if asked.images:
            layer = asked.layers[-1]
            sections, records = own_pictures(
                run, asked.images, layer=layer, method=asked.method, out=out / "pictures"
            )
            of_it = asked.model_copy(update={"layers": (layer,)})
            _write(run, of_it, "pictures", sections, {"images": records})
        if asked.check:
            measured, count, where = check_run(
                run, asked.check, layers=asked.layers, samples=asked.samples, seed=asked.seed,
                progress=progress,
            )  # fmt: skip
            section = faithfulness_section(measured, count, where, out / "truth.png", asked.seed)
            rows = [one.row(asked.seed) for one in measured]
            sentences = verdict(measured, asked.seed)
            key = [plain(sentence.text) for sentence in sentences if sentence.leads]
            _write(run, asked, "check", [section], {"checks": rows}, key)
            console = get_console()
            console.print(means_table(measured))
            for sentence in sentences:
                console.print(f"- {sentence.text}", markup=False, highlight=False)
        if not asked.images and not asked.check:
            sections, records = galleries(
                run, layers=asked.layers, method=asked.method, n=asked.n, classes=asked.classes,
                seed=asked.seed,
            )  # fmt: skip
            _write(run, asked, "galleries", sections, {"images": records})


def _write(
    run: "FinishedRun",
    asked: Options,
    part: str,
    sections: Sequence[Section],
    record: dict[str, Any],
    key: Sequence[str] = (),
) -> None:
    """One part's JSON, page and pictures in TensorBoard; and the index of all parts so far."""
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    out = run.folder.explanations
    config = run.folder.config()
    settings = {
        "method": asked.method,
        "layers": list(asked.layers),
        "checkpoint": asked.checkpoint,
    }
    write_atomically(out / f"{part}.json", json.dumps(settings | record, indent=1))
    accuracy = float((run.predicted == run.labels).mean())
    method = f"all methods at {', '.join(asked.layers)}" if part == "check" else (
        f"{asked.method} at {', '.join(asked.layers)}"
    )  # fmt: skip
    summary = plain(
        f"{config.model.label} on {config.data.label}, {asked.checkpoint} checkpoint, test accuracy "
        f"{accuracy:.2%}; {method}."
    )
    title = f"Where {config.name} looks"
    heading = f"{title}: {PARTS[part][0].lower()}{PARTS[part][1:]}"
    linked = f"{summary} [All pages of this run](index.html)."
    write_html(out / f"{part}.html", Page(heading, linked, sections, key))
    there = [
        f"[{heading}]({name}.html)"
        for name, heading in PARTS.items()
        if (out / f"{name}.html").is_file()
    ]
    made = Section("Pages", [bullets(there)])
    write_html(out / "index.html", Page(title, summary, [made]))
    quiet_event_writer()
    try:
        with SummaryWriter(str(run.folder.path)) as writer:
            for section in sections:
                for shown in section.pictures():
                    picture = np.asarray(Image.open(shown.path).convert("RGB"))
                    tag = "/".join(shown.path.relative_to(out).with_suffix("").parts)
                    writer.add_image(f"explain/{tag}", picture, 0, dataformats="HWC")
    except OSError as error:  # the page and its numbers are written
        get_console().print(
            f"TensorBoard lacks these pictures: {error.strerror or error}", markup=False
        )
    get_console().print(f"{out / part}.html", soft_wrap=True, markup=False, highlight=False)
