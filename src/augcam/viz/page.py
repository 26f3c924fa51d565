"""One self-contained HTML page, and the same as Markdown: pictures inside it, no script, no network.

What is said is written once, as Markdown (`augcam.viz.markdown`); `templates/` has the two forms.
Titles, headings and the cells of tables are plain texts: nothing in them is a mark.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from augcam.atomic import write_atomically
from augcam.viz import markdown

_PHONE = 480  # a picture of at most so many pixels stays legible when a phone shrinks it


@dataclass(frozen=True)
class Table:
    """Rows of plain texts under column names. A column of digits and signs is set as numbers.

    caption: Markdown. folded: only its first sentence is seen until it is clicked.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    folded: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers alone."""
        return [all(_is_number(row[i]) for row in self.rows) for i in range(len(self.columns))]


@dataclass(frozen=True)
class Picture:
    """A PNG file; its caption is Markdown. `density`: its pixels for each pixel of the page; 2 is
    sharp on a phone."""

    path: Path
    caption: str
    density: int = 1

    @property
    def width(self) -> int:
        """In pixels of the page."""
        with Image.open(self.path) as picture:
            return picture.width // self.density

    @property
    def is_wide(self) -> bool:
        """Whether it must not be shrunk to the width of a phone."""
        return self.width > _PHONE

    @property
    def base64(self) -> str:
        """The file."""
        return base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Embedded:
    """HTML of our own, as it is; nothing in it may come from a run. Left out of Markdown."""

    html: str


@dataclass(frozen=True)
class Row:
    """Blocks side by side where there is room, else one below the other."""

    blocks: Sequence[str | Table | Picture]


@dataclass(frozen=True)
class Folded:
    """Blocks behind a title, Markdown, which alone is seen until it is clicked."""

    title: str
    blocks: Sequence[str | Table | Picture]


Block = str | Table | Picture | Row | Folded | Embedded  # a str is Markdown


@dataclass(frozen=True)
class Section:
    """A heading, and what stands under it, in order."""

    heading: str
    blocks: Sequence[Block]

    def pictures(self) -> list[Picture]:
        """All of them, wherever they stand."""
        inner = [b.blocks if isinstance(b, Row | Folded) else [b] for b in self.blocks]
        return [block for blocks in inner for block in blocks if isinstance(block, Picture)]


@dataclass(frozen=True)
class Page:
    """What a page says.

    Attributes:
        title: plain text.
        summary: Markdown, below it.
        sections: in order; where there are more than four, links to them stand above.
        key: sentences, each Markdown, that somebody in a hurry should read.
        warnings: sentences that a reader of the numbers must know.
    """

    title: str
    summary: str
    sections: Sequence[Section]
    key: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def anchors(self) -> list[str]:
        """What links to each section name it by."""
        anchors: list[str] = []
        for section in self.sections:
            anchor = re.sub(r"\W+", "-", section.heading.lower()).strip("-") or "section"
            anchors.append(f"{anchor}-{len(anchors)}" if anchor in anchors else anchor)
        return anchors


def write_html(path: Path, page: Page) -> None:
    """Write the page into one file, which is put in place whole. Pictures are put inside."""
    write_atomically(path, _templates().get_template("page.html").render(page=page))


def write_markdown(path: Path, page: Page) -> None:
    """Write the page as Markdown; pictures are links, relative to the file."""

    def link(picture: Picture) -> str:
        return quote(picture.path.relative_to(path.parent).as_posix())

    text = _templates().get_template("page.md").render(page=page, link=link)
    write_atomically(path, text.strip() + "\n")


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("augcam.viz"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "paragraphs": markdown.paragraphs,
        "inline": markdown.inline,
        "words": markdown.words_of,
        "plain": markdown.plain,
        "bullets": markdown.bullets,
    }
    for kind in (Table, Picture, Row, Folded, Embedded):
        templates.tests[kind.__name__.lower()] = lambda block, kind=kind: isinstance(block, kind)
    return templates


def _is_number(text: str) -> bool:
    # With an underscore it is a name, such as that of a run folder, which begins with its date.
    return bool(re.fullmatch(r"[-+−±<]?\d[^_]*|[-–]?", text))
