"""Explain a run from its folder alone: galleries, one's own pictures, and are the maps true?

python -m augcam.explain run=outputs/DATE_TIME_NAME_ID
python -m augcam.explain run=DIR images='photos/*.jpg'
python -m augcam.explain run=DIR check=all
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from rich import get_console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from augcam.cli.arguments import options
from augcam.data.datasets.folder import read_image
from augcam.errors import UserError, nearest
from augcam.explain import gallery
from augcam.explain.cam import METHODS, GradCAM
from augcam.explain.faithfulness.baselines import concentration
from augcam.explain.faithfulness.evaluate import CHECKS, evaluate
from augcam.explain.faithfulness.localisation import mosaics
from augcam.explain.faithfulness.maps import Explain
from augcam.explain.faithfulness.verdict import truth_section
from augcam.runs.atomic import write_atomically
from augcam.runs.finished_run import FinishedRun, open_run
from augcam.runs.run_folder import RunFolder
from augcam.viz.grid import captioned_grid, save_png
from augcam.viz.page import Section, write_page
from augcam.viz.terminal import progress_bars

USAGE = """
Explain a finished (or interrupted) run: what its network gets right and wrong on the test set, and
where it looks. Writes PNG figures, one HTML page and a JSON into DIR/explain/, and the same pictures
into the run's TensorBoard.

  python -m augcam.explain run=DIR
  python -m augcam.explain run=DIR images='photos/*.jpg'     your own pictures
  python -m augcam.explain run=DIR classes=cat,dog n=25      two classes alone, more images
  python -m augcam.explain run=DIR check=all                 is the map true? minutes on a CPU
"""


class Options(BaseModel):
    """What `python -m augcam.explain` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    run: Annotated[Path, Field(description="folder of the run")]
    images: Annotated[str | None, Field(description="your own pictures, a path with * and ?")] = (
        None
    )
    n: Annotated[int, Field(ge=1, le=100, description="images of each gallery")] = 8
    layers: Annotated[tuple[str, ...], Field(description="target layers")] = (
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    )
    method: Annotated[str, Field(description=f"one of {', '.join(METHODS)}")] = "gradcam"
    classes: Annotated[tuple[str, ...], Field(description="true classes; all if not given")] = ()
    checkpoint: Annotated[Literal["last", "best"], Field(description="whose weights")] = "last"
    check: Annotated[
        tuple[str, ...],
        Field(description=f"all, or some of {', '.join(CHECKS)}"),
    ] = ()
    samples: Annotated[int, Field(ge=10, description="test images that the checks use")] = 200
    seed: Annotated[int, Field(ge=0, description="of every random choice")] = 0


def test_galleries(run: FinishedRun, asked: Options) -> tuple[list[Section], list[dict[str, Any]]]:
    """Correct, misclassified and most confused test images, each with its maps.

    Returns:
        The page's sections (their PNGs written), and a record of every image shown.
    """
    allowed = np.ones(len(run.labels), bool)
    if asked.classes:
        for name in asked.classes:
            if name not in run.classes:
                raise UserError(f"classes={name}: unknown; {nearest(name, run.classes)}")
        allowed = np.isin(run.labels, [run.classes.index(name) for name in asked.classes])
    right = run.predicted == run.labels
    confusion = np.zeros((len(run.classes),) * 2, np.int64)
    np.add.at(confusion, (run.labels[allowed], run.predicted[allowed]), 1)
    pairs = gallery.confused_pairs(confusion, run.classes, count=5)

    sections, records = [], []
    for name, heading, text, chosen in (
        (
            "confused",
            "The most confused pairs of classes",
            "Of each pair, the image that the network is surest about and wrong.",
            _one_of_each_pair(run, pairs),
        ),
        (
            "misclassified",
            "Misclassified",
            "The test images that the network gets wrong most confidently.",
            gallery.choose(~right & allowed, run.confidence, asked.n, asked.seed, confident=True),
        ),
        (
            "correct",
            "Correct",
            "Test images that it gets right, chosen at random.",
            gallery.choose(right & allowed, run.confidence, asked.n, asked.seed, confident=False),
        ),
    ):
        if len(chosen) == 0:
            sections.append(Section(heading, "There are none."))
            continue
        path = run.folder.path / "explain" / f"{name}.png"
        records += draw_gallery(run, asked, chosen, path)
        table = (
            [(t, p, str(count), f"{share:.1%}") for t, p, count, share in pairs]
            if name == "confused"
            else []
        )
        sections.append(
            Section(
                heading,
                text,
                [(path, _HOW_TO_READ)],
                ("true class", "predicted", "images", "of the true class"),
                table,
            )
        )
    return sections, records


_HOW_TO_READ = (
    "Three rows an image: what speaks for the class that the network predicted, for the true class "
    "(for correct images: the runner-up), and for the first against the second. Red is evidence; a grey "
    "picture has none. Where a layer has few cells they stand beside the smooth map."
)


def _one_of_each_pair(run: FinishedRun, pairs: Sequence[tuple[str, str, int, float]]) -> np.ndarray:
    found = []
    for true, predicted, _count, _share in pairs:
        wanted = (run.labels == run.classes.index(true)) & (
            run.predicted == run.classes.index(predicted)
        )
        found += gallery.choose(wanted, run.confidence, 1, 0, confident=True).tolist()
    return np.array(found, np.int64)


def draw_gallery(
    run: FinishedRun, asked: Options, chosen: np.ndarray, path: Path
) -> list[dict[str, Any]]:
    """Draw the test images `chosen`, int (M,), three rows each, into `path`; one record an image."""
    shown = run.images[chosen]
    inputs = run.normalize(shown)
    logits = run.predict(inputs)
    order = logits.argsort(dim=1, descending=True)
    first = order[:, 0]
    truth = torch.from_numpy(run.labels[chosen]).to(first)
    second = torch.where(truth == first, order[:, 1], truth)
    targets = (first, second, torch.stack([first, second], dim=1))
    maps = [gallery.explain(run.network, inputs, t, asked.layers, asked.method) for t in targets]
    rows, captions, records = [], [], []
    for i, index in enumerate(chosen):
        said, other = run.classes[int(first[i])], run.classes[int(second[i])]
        confidence = float(logits[i, first[i]])
        label = run.classes[int(truth[i])]
        lines = (
            f"test {index}: {label} → {said}\n{confidence:.0%}; here: {said}",
            f"{other}, {float(logits[i, second[i]]):.0%}",
            f"{said} against {other}",
        )
        for found, line in zip(maps, lines, strict=True):
            rows.append(gallery.row(shown[i], found, i, asked.layers))
            captions.append(line)
        shares = {layer: concentration(maps[0][layer].raw) for layer in asked.layers}
        records.append(
            {
                "index": int(index),
                "true": label,
                "predicted": said,
                "confidence": confidence,
                "maps": gallery.map_statistics(maps[0], i, shares),
            }
        )
    columns = gallery.headings(asked.layers, maps[0], shown.shape[1])
    save_png(captioned_grid(rows, captions, columns), path)
    return records


def own_pictures(run: FinishedRun, asked: Options) -> tuple[list[Section], list[dict[str, Any]]]:
    """Explain the user's pictures: the three likeliest classes, a map each. Bad files are listed."""
    assert asked.images is not None
    pattern = Path(asked.images).expanduser().absolute()
    paths = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    if not paths:
        raise UserError(f"images={asked.images}: no file has such a name")
    side = run.images.shape[1]
    good, bad = [], []
    for path in paths:
        try:
            good.append((path, *open_picture(path, side)))
        except UserError as error:
            bad.append(str(error))
            print(f"augcam: {error}", file=sys.stderr)
    if not good:
        raise UserError("none of the pictures can be used")
    inputs = run.normalize(np.stack([seen for _, _, seen in good]))
    probabilities = run.predict(inputs)
    top = probabilities.topk(min(3, len(run.classes)), dim=1)
    rows: list[list[np.ndarray]] = [[original, seen] for _, original, seen in good]
    layer = asked.layers[-1]
    for place in range(top.indices.shape[1]):
        maps = gallery.explain(run.network, inputs, top.indices[:, place], (layer,), asked.method)
        for i, (_, _, seen) in enumerate(good):
            rows[i].append(gallery.row(seen, maps, i, (layer,))[1])
    captions, records = [], []
    for i, (path, _, _) in enumerate(good):
        said = [
            (run.classes[int(label)], float(p))
            for label, p in zip(top.indices[i], top.values[i], strict=True)
        ]
        captions.append(path.name + "\n" + "\n".join(f"{name} {p:.0%}" for name, p in said))
        records.append(
            {"file": str(path), "top": [{"class": n, "probability": p} for n, p in said]}
        )
    picture = run.folder.path / "explain" / "pictures.png"
    columns = ["original", f"as the network\nsees it, {side}x{side}"]
    columns += [f"{ordinal}\n{layer}" for ordinal in ("likeliest", "second", "third")]
    save_png(captioned_grid(rows, captions, columns[: len(rows[0])]), picture)
    text = f"{len(good)} pictures, and what speaks for each of the three likeliest classes."
    sections = [Section("Your pictures", text, [(picture, "Red is evidence for the class.")])]
    if bad:
        sections.append(
            Section(
                "Not explained", "These files could not be used.", (), ("why",), [[b] for b in bad]
            )
        )
    return sections, records


# Beyond this many pixels a picture is a mistake or an attack, and takes gigabytes to decode.
_MOST_PIXELS = 50_000_000


def open_picture(path: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture of any mode: as it is, 128 pixels high at most, and as the network sees it.

    Returns:
        uint8 (h, w, 3) and uint8 (side, side, 3): short side to `side`, centre crop.

    Raises:
        UserError: not an image, empty, animated, too small (below 8 pixels) or too large.
    """
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            frames = getattr(opened, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{path}: not an image that can be read") from None
    if width * height > _MOST_PIXELS:
        raise UserError(
            f"{path}: {width}x{height} is over {_MOST_PIXELS // 1_000_000} megapixels; scale it down"
        )
    if min(width, height) < 8:
        raise UserError(f"{path}: {width}x{height} is too small to show anything; 8x8 is the least")
    if frames > 1:
        raise UserError(f"{path}: animated, {frames} frames; save the one that you mean")
    shown = read_image(path, 128)
    return shown, read_image(path, side)


def check_maps(run: FinishedRun, asked: Options, progress: Progress) -> tuple[Section, list[dict]]:
    """Every measure of `augcam.explain.faithfulness` for the methods and layers, as a table."""
    if asked.check == ("all",):
        checks: tuple[str, ...] = CHECKS
    else:
        for name in asked.check:
            if name not in CHECKS:
                raise UserError(f"check={name}: unknown; {nearest(name, ['all', *CHECKS])}")
        checks = asked.check
    random = np.random.default_rng(asked.seed)
    right = np.flatnonzero(run.predicted == run.labels)
    if len(right) < 10:
        raise UserError(f"only {len(right)} test images are classified correctly: too few to check")
    chosen = np.sort(random.permutation(right)[: asked.samples])
    targets = torch.from_numpy(run.labels[chosen])
    inputs = run.normalize(run.images[chosen])
    explainers = {name: _explainer(name, asked.layers) for name in METHODS}
    task = progress.add_task("checking the maps", total=None)

    def tell(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    rows: list[dict[str, Any]] = []
    others = tuple(check for check in checks if check != "localisation")
    if others:
        rows += evaluate(
            run.network, run.predict, explainers, inputs, targets.to(inputs.device),
            checks=others, seed=asked.seed, progress=tell,
        )  # fmt: skip
    if "localisation" in checks:
        progress.update(task, description="where they point")
        if run.masks is not None:
            images, masks, what = inputs, run.masks[chosen], targets
        else:
            made = mosaics(
                run.images[right], run.labels[right], count=asked.samples, seed=asked.seed
            )
            images, masks = run.normalize(made.images), made.masks
            what = torch.from_numpy(made.targets)
        rows += evaluate(
            run.network, run.predict, explainers, images, what.to(images.device),
            masks=masks, checks=("localisation",), seed=asked.seed, progress=tell,
        )  # fmt: skip
    where = "2x2 mosaics of test images" if run.masks is None else "the objects' own masks"
    return truth_section(rows, len(chosen), where, run.folder.path / "explain" / "truth.png"), rows


def _explainer(method: str, layers: Sequence[str]) -> Explain:
    def maps_of(network: nn.Module, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        found = gallery.explain(network, images, targets, layers, method)
        return {layer: found[layer].raw.relu() for layer in layers}

    return maps_of


def main(arguments: Sequence[str]) -> None:
    """Open the run, explain what was asked for, and write the page, the JSON and TensorBoard."""
    asked = options(Options, arguments, USAGE)
    if asked.method not in METHODS:
        raise UserError(f"method={asked.method}: unknown; {nearest(asked.method, METHODS)}")
    folder = RunFolder(asked.run)
    console = get_console()
    with progress_bars() as progress:
        run = open_run(folder, asked.checkpoint, progress)
        with GradCAM(run.network, layers=asked.layers) as cam:
            cam(
                run.normalize(run.images[:1])
            )  # an impossible layer is told before anything is drawn
        out = folder.path / "explain"
        out.mkdir(exist_ok=True)
        sections, records = (own_pictures if asked.images else test_galleries)(run, asked)
        report: dict[str, Any] = {
            "method": asked.method,
            "layers": list(asked.layers),
            "checkpoint": asked.checkpoint,
            "images": records,
        }
        if asked.check:
            section, report["checks"] = check_maps(run, asked, progress)
            sections.insert(0, section)
            table = Table(*section.columns, title=Text(section.heading))
            for row in section.rows:
                table.add_row(*row)
            console.print(table, section.text, markup=False)
    write_atomically(out / "explain.json", json.dumps(report, indent=1))
    name = folder.config().name
    accuracy = float((run.predicted == run.labels).mean())
    summary = (
        f"{folder.config().model.label} on {folder.config().data.name}, {asked.checkpoint} checkpoint, "
        f"test accuracy {accuracy:.2%}; {asked.method} at {', '.join(asked.layers)}."
    )
    write_page(out / "index.html", f"Where {name} looks", summary, sections)
    with SummaryWriter(str(folder.path)) as writer:
        for section in sections:
            for path, _caption in section.pictures:
                picture = np.asarray(Image.open(path).convert("RGB"))
                writer.add_image(f"explain/{path.stem}", picture, 0, dataformats="HWC")
    console.print(f"{out / 'index.html'}", soft_wrap=True, markup=False)
