"""Markdown of the pages: what is written is rendered, what a folder holds is shown as it is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from augcam.viz.markdown import bullets, code, commands, inline, paragraphs, plain, words_of

HOSTILE = [
    "<script>alert(1)</script>",
    "![](http://evil.example/pixel.png)",
    "[click](javascript:alert(1))",
    "[click](http://evil.example/page.html)",
    "<http://evil.example>",
    "**bold** _it_ `code` ~~gone~~ | a | $x$",
    "# heading",
    "- item",
    "1. item",
    "&lt;b&gt; &amp;",
    "a\\*b",
    "``` js",
    "crop_flip, aug.rotate.limit=[-5,5], 2*3*4",
]


def text(html: str) -> str:
    """What is read."""
    html = re.sub(r"<[^>]+>", "", html)
    for entity, character in (("lt", "<"), ("gt", ">"), ("quot", '"'), ("#x27", "'"), ("amp", "&")):
        html = html.replace(f"&{entity};", character)
    return html.strip("\n")


def test_the_marks_of_our_own_sentences():
    assert inline("**A**, `b --c-d` and [more](more.html)") == (
        '<strong>A</strong>, <code>b <span>--c-d</span></code> and <a href="more.html">more</a>'
    )
    assert paragraphs(bullets(["one", "two"])) == "<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"
    assert paragraphs(commands(["a > b", "c"])) == (
        '<pre><code class="language-sh">a &gt; b\nc\n</code></pre>\n'
    )
    assert words_of("**A** & `b<c`") == "A & b<c"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_text_makes_no_element_of_its_own(value):
    """Even where nobody has escaped it: no HTML, no picture, no address elsewhere."""
    for html in (inline(value), paragraphs(value), paragraphs(bullets([value]))):
        assert not re.search(r"<(script|img|http)|href", html)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("escape", [plain, code])
def test_a_value_is_read_as_it_is(value, escape):
    """On our page, and by a reader of all of Markdown, as GitHub is."""
    github = MarkdownIt("gfm-like", {"linkify": False})
    for html in (inline(escape(value)), paragraphs(escape(value)), github.render(escape(value))):
        assert text(html) == value
        assert set(re.findall(r"<(\w+)", html)) <= {"p", "code", "span"}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_any_value_is_read_as_it_is(value):
    value = " ".join(value.split())
    assert text(inline(f"see {plain(value)}.")) == f"see {value}."
    if value:
        assert text(inline(f"see {code(value)}.")) == f"see {value}."
