"""One self-contained HTML page, and the same as Markdown: pictures inside it, no script, no network.

Texts are plain, with three marks of Markdown: `code`, **bold** and [links](to.html) to pages beside.
"""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from augcam.atomic import write_atomically

_PHONE = 480  # a picture of at most so many pixels stays legible when a phone shrinks it


_STYLE = """
:root { --ink: #1c2733; --soft: #51606f; --line: #dfe5ec; --paper: #fff; --tint: #f3f6f9; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
       background: var(--paper); max-width: 68rem; margin: 0 auto; padding: 1.25rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 3rem 0 .5rem; padding-top: .9rem;
     border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; } ul { padding-left: 1.2rem; } li { margin: .3rem 0; }
.key { background: var(--tint); border-radius: .5rem; padding: .7rem 1.2rem; max-width: 56rem; }
.key ul { max-width: none; margin: 0; font-size: 1.05rem; }
nav { color: var(--soft); font-size: .9rem; } nav a { color: #1f5f99; }
code, pre { font: .86em/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
code { background: #e9eef3; padding: .08em .3em; border-radius: .25em; overflow-wrap: anywhere; }
code span { white-space: nowrap; }
pre { background: var(--tint); padding: .7rem 1rem; border-radius: .4rem; white-space: pre-wrap;
      overflow-wrap: anywhere; }
figure { margin: 1rem 1.5rem 1rem 0; display: inline-block; vertical-align: top; max-width: 100%;
         min-width: min(28rem, 100%); }
img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .9rem; line-height: 1.45; max-width: 46rem;
             margin-top: .4rem; }
.scroll { overflow-x: auto; }
.table { margin: 1rem 0; } .table > p, summary { color: var(--soft); font-size: .9rem; }
.table > p { margin: .4rem 0; line-height: 1.45; }
summary { cursor: pointer; }
table { border-collapse: collapse; font-size: .9rem; line-height: 1.35; }
td, th { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line);
         vertical-align: top; min-width: 3.5rem; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
td { white-space: nowrap; }
td.long { white-space: normal; overflow-wrap: break-word; min-width: 16rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { padding-left: 0; }
@media (max-width: 40rem) {
  body { padding: .75rem .75rem 3rem; } h1 { font-size: 1.4rem; } h2 { margin-top: 2.2rem; }
  figure { margin-right: 0; width: 100% !important; } td, th { padding: .3rem .5rem; }
  /* Small print stays legible: what is wide is moved under the finger, with its names in sight. */
  img.wide { max-width: none; width: max(100%, .8 * var(--width)); }
  td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper);
                                   max-width: 9rem; white-space: normal; }
}
"""


@dataclass(frozen=True)
class Table:
    """Rows of texts under column names. A cell that begins with a digit or a sign is a number.

    folded: only the caption's first sentence is seen until it is clicked.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A PNG file. `density`: its pixels for each pixel of the page; 2 is sharp on a phone."""

    path: Path
    caption: str
    density: int = 1


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Commands:
    """Lines for a terminal."""

    lines: Sequence[str]


Block = str | Table | Picture | Bullets | Commands


@dataclass(frozen=True)
class Section:
    """A heading with a text, and what it is about: pictures (PNG files), a table, further blocks."""

    heading: str
    text: str
    pictures: Sequence[tuple[Path, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    blocks: Sequence[Block] = ()

    def content(self) -> list[Block]:
        """All of it in order, without the heading."""
        table = [Table(self.columns, self.rows)] if self.rows else []
        pictures = [Picture(path, caption) for path, caption in self.pictures]
        return [self.text, *table, *pictures, *self.blocks]


def write_page(
    path: Path, title: str, summary: str, sections: Sequence[Section], key: Sequence[str] = ()
) -> None:
    """Write the page. Pictures are put inside; every text is escaped.

    Args:
        path: the HTML file; it is put in place whole.
        title, summary: at the top.
        sections: in order; where there are more than four, links to them stand above.
        key: sentences that somebody in a hurry should read, set off below the summary.
    """
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><p>{_inline(summary)}</p>",
    ]
    if key:
        parts.append(f"<div class='key'>{_html(Bullets(key))}</div>")
    if len(sections) > 4:
        links = (f"<a href='#{_anchor(s)}'>{html.escape(s.heading)}</a>" for s in sections)
        parts.append(f"<nav><p>{' · '.join(links)}</p></nav>")
    for section in sections:
        heading = f"<h2>{html.escape(section.heading)}</h2>"
        parts.append(f"<section id='{_anchor(section)}'>{heading}")
        parts += [_html(block) for block in section.content()]
        parts.append("</section>")
    write_atomically(path, "\n".join(parts))


def write_markdown(
    path: Path, title: str, summary: str, sections: Sequence[Section], key: Sequence[str] = ()
) -> None:
    """The same as Markdown; pictures are links, relative to the file. Arguments as `write_page`."""
    blocks: list[str] = [f"# {_escaped(title)}", _escaped(summary)]
    if key:
        blocks.append(_markdown(Bullets(key), path.parent))
    for section in sections:
        blocks.append(f"## {_escaped(section.heading)}")
        blocks += [_markdown(block, path.parent) for block in section.content()]
    write_atomically(path, "\n\n".join(block for block in blocks if block) + "\n")


def _html(block: Block) -> str:
    match block:
        case str():
            return f"<p>{_inline(block)}</p>" if block else ""
        case Bullets():
            return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in block.items)}</ul>"
        case Commands():
            return f"<pre>{html.escape(chr(10).join(block.lines))}</pre>"
        case Picture():
            with Image.open(block.path) as picture:
                width = picture.width // block.density
            data = base64.b64encode(block.path.read_bytes()).decode()
            alt = html.escape(block.caption.replace("`", "").replace("*", ""))
            wide = f" class='wide' style='--width: {width}px'" if width > _PHONE else ""
            return (
                f"<figure style='width: {width}px'><div class='scroll'>"
                f"<img width='{width}'{wide} alt='{alt}' src='data:image/png;base64,{data}'></div>"
                f"<figcaption>{_inline(block.caption)}</figcaption></figure>"
            )
        case Table():
            numeric = [
                all(_is_number(row[i]) for row in block.rows) for i in range(len(block.columns))
            ]
            head = _cells("th", block.columns, numeric)
            rows = "".join(f"<tr>{_cells('td', row, numeric)}</tr>" for row in block.rows)
            table = f"<div class='scroll'><table><tr>{head}</tr>{rows}</table></div>"
            if block.folded:
                first, _, rest = block.caption.partition(". ")
                return (
                    f"<details class='table'><summary>{_inline(first)}</summary>{table}"
                    f"{_caption(rest)}</details>"
                )
            return f"<div class='table'>{table}{_caption(block.caption)}</div>"


def _caption(text: str) -> str:
    return f"<p>{_inline(text)}</p>" if text else ""


def _cells(tag: str, texts: Iterable[str], numeric: Iterable[bool]) -> str:
    def kind(text: str, right: bool) -> str:
        return " class=number" if right else " class=long" if len(text) > 40 else ""

    return "".join(
        f"<{tag}{kind(text, right)}>{_inline(text)}</{tag}>"
        for text, right in zip(texts, numeric, strict=True)
    )


def _is_number(text: str) -> bool:
    return bool(re.match(r"[-+−±<]?\d|[-–]?$", text.strip("*")))


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", lambda match: _code(match[1]), html.escape(text))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"\[([\w. -]+)\]\(([\w-]+\.html)\)", r"<a href='\2'>\1</a>", text)


def _code(text: str) -> str:
    # A line may end between words, but not within an option: after its hyphen it would.
    whole = re.sub(r"(?<= )-[-\w]+", r"<span>\g<0></span>", text)
    return f"<code>{whole}</code>"


def _anchor(section: Section) -> str:
    return re.sub(r"\W+", "-", section.heading.lower()).strip("-")


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case str():
            return _escaped(block)
        case Bullets():
            return "\n".join(f"- {_escaped(item)}" for item in block.items)
        case Commands():
            return "\n".join(f"    {line}" for line in block.lines)
        case Picture():
            where = block.path.relative_to(folder).as_posix()
            return f"![]({where})\n\n*{_escaped(block.caption)}*"
        case Table():
            rows = [block.columns, ["---"] * len(block.columns), *block.rows]
            lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
            return "\n".join([*lines, "", _escaped(block.caption)]).rstrip()


def _cell(text: str) -> str:
    return _escaped(text).replace("|", r"\|").replace("\n", " ")


def _escaped(text: str) -> str:
    """Markdown of a text: what is outside its code is safe from becoming a tag."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", r"\<") for p in parts)
