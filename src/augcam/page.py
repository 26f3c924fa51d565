"""One self-contained HTML page: pictures inside it, no script, no network."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff;
       max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
figure { margin: 1rem 0; overflow-x: auto; } img { max-width: 100%; image-rendering: auto; }
figcaption { color: #4a5866; max-width: 46rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e3e8ee; }
td:first-child, th:first-child { text-align: left; }
"""


@dataclass(frozen=True)
class Section:
    """A heading with a text, and what it is about: pictures (PNG files) or a table."""

    heading: str
    text: str
    pictures: Sequence[tuple[Path, str]] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def write_page(path: Path, title: str, summary: str, sections: Sequence[Section]) -> None:
    """Write the page. Pictures are put inside; every text is escaped.

    Args:
        path: the HTML file; it is put in place whole.
        title, summary: plain text.
        sections: in order.
    """
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>",
    ]
    for section in sections:
        parts.append(f"<section><h2>{html.escape(section.heading)}</h2>")
        parts.append(f"<p>{html.escape(section.text)}</p>")
        if section.rows:
            parts.append("<div class='scroll'><table><tr>")
            parts += [f"<th>{html.escape(column)}</th>" for column in section.columns]
            parts.append("</tr>")
            for row in section.rows:
                cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
                parts.append(f"<tr>{cells}</tr>")
            parts.append("</table></div>")
        for picture, caption in section.pictures:
            data = base64.b64encode(picture.read_bytes()).decode()
            words = html.escape(caption)
            parts.append(f"<figure><img alt='{words}' src='data:image/png;base64,{data}'>")
            parts.append(f"<figcaption>{words}</figcaption></figure>")
        parts.append("</section>")
    beside = path.with_name(f".{path.name}")
    beside.write_text("".join(parts), encoding="utf-8")
    beside.replace(path)
