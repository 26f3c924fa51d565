"""Arrays -> captioned grids and figures; shared by training, preview, explain and report.

All text is drawn here, in one font, so that every picture of a run looks alike.
"""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from augcam.atomic import write_atomically
from augcam.errors import UserError

GAP = 6  # pixels between cells and around the grid


CELL = 128  # small images are enlarged to about this many pixels


CAPTION_WIDTH = 260  # captions wider than this many pixels are wrapped


TEXT = 14  # pixels of the font


# TensorBoard's page shrinks a picture to about 320 pixels until it is clicked: the text outlives it.
TEXT_FOR_TENSORBOARD = 24


INK, PAPER = (38, 38, 38), (255, 255, 255)


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Images as they were before Normalize.

    Args:
        images: floating point (B, 3, H, W), on any device.
        mean, std: of the normalisation, three each, in units of 0..1.

    Returns:
        uint8 (B, H, W, 3), rounded to the nearest value and clipped.
    """
    channels_last = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    values = channels_last * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)


def captioned_grid(
    rows: Sequence[Sequence[np.ndarray]],
    captions: Sequence[str],
    headings: Sequence[str] = (),
    text_size: int = TEXT,
) -> np.ndarray:
    """A grid of images with a caption to the right of each row and a heading over each column.

    Small images are enlarged by a whole factor, nearest neighbour, so that a pixel stays a pixel.
    Text is never cut: it is wrapped, and the grid grows.

    Args:
        rows: uint8 images (H, W, 3); sizes may differ, and rows may be of different lengths.
        captions: one per row, may hold line breaks.
        headings: one per column, or none.
        text_size: of captions and headings, in pixels.

    Returns:
        uint8 (height, width, 3).

    Raises:
        UserError: no images, or another number of captions than of rows.
    """
    if not rows or not all(len(row) for row in rows):
        raise UserError("No images to draw: every row of a grid needs at least one.")
    if len(captions) != len(rows):
        raise UserError(f"{len(captions)} captions for {len(rows)} rows.")
    columns = max(len(row) for row in rows)
    longest = max(max(image.shape[:2]) for row in rows for image in row)
    factor = max(1, round(CELL / longest))
    width = factor * max(image.shape[1] for row in rows for image in row)
    # Headings of tiny cells would be broken within words.
    width = max(width, CELL // 2)

    font = _font(text_size)
    texts = [_wrapped(caption, CAPTION_WIDTH, font) for caption in captions]
    titles = [_wrapped(heading, width, font) for heading in headings]
    title_height = max((_extent(title, font)[1] for title in titles), default=0)
    heights = [
        max(_extent(text, font)[1], *(factor * image.shape[0] for image in row))
        for row, text in zip(rows, texts, strict=True)
    ]
    caption_width = max(_extent(text, font)[0] for text in texts)

    top = GAP + (title_height + GAP if title_height else 0)
    left = GAP + columns * (width + GAP)
    full_width = left + (caption_width + 2 * GAP if caption_width else 0)
    canvas = np.full((top + sum(heights) + GAP * len(rows), full_width, 3), PAPER, dtype=np.uint8)
    y = top
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            x = GAP + column * (width + GAP) + (width - large.shape[1]) // 2
            middle = y + (height - large.shape[0]) // 2
            canvas[middle : middle + large.shape[0], x : x + large.shape[1]] = large
        y += height + GAP

    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        x = GAP + column * (width + GAP) + width // 2
        bottom = GAP + title_height
        draw.multiline_text((x, bottom), title, INK, font, anchor="md", align="center")
    y = top
    for text, height in zip(texts, heights, strict=True):
        draw.multiline_text((left + GAP, y + height / 2), text, INK, font, anchor="lm")
        y += height + GAP
    return np.asarray(picture)


def png_bytes(picture: Image.Image, optimize: bool = False) -> bytes:
    """A picture as the content of a PNG file."""
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=optimize)
    return content.getvalue()


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write a uint8 (H, W, 3) picture whole or not at all, making its folder if need be."""
    write_atomically(path, png_bytes(Image.fromarray(picture)))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib and has arrows and most scripts; Pillow's own font has neither.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def _extent(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height of a text in pixels, over all its lines; (0, 0) for an empty one."""
    if not text:
        return 0, 0
    draw = ImageDraw.Draw(Image.new("1", (1, 1)))
    left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font)
    return round(right - left), round(bottom - top) + 2


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text with lines of at most `width` pixels, broken at spaces, within words at need."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            together = f"{line} {word}" if line else word
            if font.getlength(together) <= width:
                line = together
                continue
            if line:
                lines.append(line)
            line = word
            while font.getlength(line) > width:
                fits = len(line)
                while fits > 1 and font.getlength(line[:fits]) > width:
                    fits -= 1
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return "\n".join(lines)
