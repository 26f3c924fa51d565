"""One's own pictures: the likeliest classes, and what speaks for each."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from augcam.data.datasets.folder import open_image, read_image, read_whole
from augcam.errors import UserError
from augcam.explain.cam import LayerMaps, heatmap
from augcam.explain.overlay import overlay
from augcam.explain.rows import explain_images
from augcam.runs.finished_run import FinishedRun
from augcam.viz import words
from augcam.viz.grid import captioned_grid, save_png
from augcam.viz.markdown import plain
from augcam.viz.page import Block, Picture, Row, Section, Table

# Beyond this many pixels a picture is a mistake or an attack, and takes gigabytes to decode.
_MOST_PIXELS = 50_000_000

# Pixels of a picture's longer side on the page: scaled down above, enlarged by a whole factor below.
_LARGEST, _SMALLEST = 640, 320

# Pixels of the tiles beside it.
_TILE = 128

# Pictures that are explained at once, each with its activations and gradients in memory.
_BATCH = 100


def matching(pattern: str) -> list[Path]:
    """The files that a path with * and ? names, in order.

    Raises:
        UserError: there is none, or it names a folder.
    """
    path = Path(pattern).expanduser().absolute()
    if path.is_dir():
        raise UserError(
            f"images={pattern}: a folder; write images='{path / '*.jpg'}' for what is in it"
        )
    # A bracket is a letter: cameras and browsers write IMG[1].jpg.
    relative = str(path.relative_to(path.anchor)).replace("[", "[[]")
    found = sorted(Path(path.anchor).glob(relative))
    paths = [one for one in found if one.is_file()]
    if not paths:
        raise UserError(f"images={pattern}: no file has such a name")
    return paths


def own_pictures(
    run: FinishedRun, pattern: str, *, layer: str, method: str, out: Path
) -> tuple[list[Section], list[dict[str, Any]]]:
    """Explain the user's pictures: the three likeliest classes, a map each. Bad files are listed.

    The overlay of the likeliest class has the picture's own size, up to 640 pixels a side: the network
    sees few pixels, its cells are fewer still, and a map of them can be laid over any size. The network
    sees the picture's central square; what is outside is dark. The other maps are tiles beside it.

    Args:
        pattern: a path with * and ?.
        out: folder for the PNG files, two for each picture.

    Returns:
        The page's sections (their PNGs written), and a record of every picture.

    Raises:
        UserError: no file has such a name, or none can be used.
    """
    side = run.images.shape[1]
    good, bad = [], []
    for path in matching(pattern):
        try:
            good.append((path, *open_picture(path, side)))
        except UserError as error:
            bad.append(str(error))
            print(f"augcam: {error}", file=sys.stderr)
    if not good:
        raise UserError("none of the pictures can be used")
    answers = _answers(run, [small for _, _, small in good], layer, method)
    blocks: list[Block] = []
    records = []
    for number, ((path, original, small), (likeliest, maps, i)) in enumerate(
        zip(good, answers, strict=True), start=1
    ):
        names = [f"{name} {p:.0%}" for name, p in likeliest]
        png, beside = out / f"{number:03d}.png", out / f"{number:03d}_others.png"
        save_png(_overlaid(original, maps[0], i), png)
        tiles = [central_square(original), small]
        tiles += [central_square(_overlaid(original, found, i)) for found in maps[1:]]
        captions = ["the picture", f"for the network:\n{side}x{side}", *names[1:]]
        save_png(captioned_grid([[_tile(tile)] for tile in tiles], captions), beside)
        seen = f"{path.name}: {names[0]}. Red is evidence for {likeliest[0][0]}."
        if original.shape[0] != original.shape[1]:
            seen += " The network does not see the dark parts."
        others = f"What it sees, and evidence for {' and '.join(names[1:])}."
        blocks.append(Row([Picture(png, plain(seen)), Picture(beside, plain(others))]))
        records.append(
            {"file": str(path), "top": [{"class": n, "probability": p} for n, p in likeliest]}
        )
    text = (
        f"{words.plural(len(good), 'picture')}, and what speaks for each of the likeliest classes at "
        f"{plain(layer)}."
    )
    sections = [Section("Your pictures", [text, *blocks])]
    if bad:
        table = Table(("why",), [[line] for line in bad])
        sections.append(Section("Not explained", ["These files could not be used.", table]))
    return sections, records


def _answers(
    run: FinishedRun, squares: Sequence[np.ndarray], layer: str, method: str
) -> Iterator[tuple[list[tuple[str, float]], list[LayerMaps], int]]:
    """Of each square: its likeliest classes, a batch's maps for each of them, and its place in these."""
    for start in range(0, len(squares), _BATCH):
        inputs = run.normalize(np.stack(squares[start : start + _BATCH]))
        top = run.predict(inputs).topk(min(3, len(run.classes)), dim=1)
        maps = [
            explain_images(run.network, inputs, labels, (layer,), method)[layer]
            for labels in top.indices.unbind(1)
        ]
        for i, one in enumerate(zip(top.indices.tolist(), top.values.tolist(), strict=True)):
            yield [(run.classes[label], p) for label, p in zip(*one, strict=True)], maps, i


def _overlaid(picture: np.ndarray, maps: LayerMaps, number: int) -> np.ndarray:
    """The map of one of a batch over a picture (H, W, 3) of any size; outside its square it is dark."""
    shown = (picture * np.float32(0.3)).astype(np.uint8)
    square = central_square(picture)
    one = slice(number, number + 1)
    heat = heatmap(maps.raw[one], maps.status_code[one], square.shape[:2])[0]
    central_square(shown)[:] = overlay(square, heat.cpu().numpy(), maps.status[number])
    return shown


def central_square(picture: np.ndarray) -> np.ndarray:
    """The part of a picture (H, W, 3) that the network sees: a view."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def _tile(square: np.ndarray) -> np.ndarray:
    """A square at `_TILE` pixels; where it is enlarged, a pixel stays a pixel."""
    small = len(square) < _TILE
    how = Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(square).resize((_TILE, _TILE), how))


def open_picture(path: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture of any mode, whole, and its central square as the network sees it.

    Returns:
        uint8 (H, W, 3) of `_SMALLEST` to `_LARGEST` pixels' length, and uint8 (side, side, 3).

    Raises:
        UserError: not an image, empty, animated, too small (below 8 pixels) or too large.
    """
    with open_image(path) as opened:
        width, height = opened.size
        # Beside the picture, cameras put a preview or a second view into a JPEG: no animation.
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
    if width * height > _MOST_PIXELS:
        raise UserError(
            f"{path}: {width}x{height} is over {_MOST_PIXELS // 1_000_000} megapixels; scale it down"
        )
    if min(width, height) < 8:
        raise UserError(f"{path}: {width}x{height} is too small to show anything; 8x8 is the least")
    if frames > 1:
        raise UserError(f"{path}: animated, {frames} frames; save the one that you mean")
    whole = read_whole(path, _LARGEST)
    factor = max(1, _SMALLEST // max(whole.shape))
    return whole.repeat(factor, axis=0).repeat(factor, axis=1), read_image(path, side)
