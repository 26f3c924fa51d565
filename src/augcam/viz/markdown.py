"""Markdown of the pages: written once, kept in report.md as it is and rendered for report.html.

Names and values of a run folder stand among the words, so the Markdown that is rendered is a small one:
paragraphs, lists, commands, `code`, **bold** and [links](to.html) to pages beside. No HTML, no picture
and no address of another place is ever made of a text, whatever it holds.
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup

_PAGE_BESIDE = re.compile(r"(#[\w-]+|[\w-]+\.html)")

# Marks in any place, and those that mean something only where a line or a word begins or ends.
_MARKS = re.compile(
    r"[\\`*\[\]<|~$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])"
    r"|^[-+#=>](?=[\s\-+#=>]|$)|^>"
)


def plain(value: object) -> str:
    """Markdown that shows the value as it is: for names and values that others chose."""
    marked = _MARKS.sub(r"\\\g<0>", " ".join(str(value).split()))
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", marked)


def code(value: object) -> str:
    """Markdown that shows the value as code, whatever quotes it holds."""
    text = " ".join(str(value).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    edge = " " if len(fence) > 1 or not text else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def bullets(sentences: Iterable[str]) -> str:
    """A list of sentences, each Markdown; "" if there is none."""
    return "\n".join(f"- {' '.join(sentence.split())}" for sentence in sentences)


def commands(lines: Sequence[str]) -> str:
    """Lines for a terminal."""
    text = "\n".join(lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def paragraphs(markdown: str) -> Markup:
    """HTML of Markdown with its paragraphs and lists."""
    return Markup(_RENDERER.render(markdown))


def inline(markdown: str) -> Markup:
    """HTML of one line of Markdown, to stand in an element."""
    return Markup(_RENDERER.renderInline(markdown))


def words_of(markdown: str) -> str:
    """The text without its marks, for what is read aloud."""
    return html.unescape(re.sub(r"<[^>]+>", "", inline(markdown)))


def _is_beside(url: str) -> bool:
    return bool(_PAGE_BESIDE.fullmatch(url))


def _code(_: RendererHTML, tokens: Sequence[Any], index: int, *__: Any) -> str:
    # A line may end between words, but not within an option: after its hyphen it would.
    text = html.escape(tokens[index].content)
    whole = re.sub(r"(?<= )-[-\w]+", r"<span>\g<0></span>", text)
    return f"<code>{whole}</code>"


def _renderer() -> MarkdownIt:
    rules = ["backticks", "emphasis", "escape", "fence", "link", "list"]
    renderer = MarkdownIt("zero", {"html": False}).enable(rules)
    renderer.validateLink = _is_beside  # type: ignore[method-assign]
    renderer.add_render_rule("code_inline", _code)
    return renderer


_RENDERER = _renderer()
