"""One page from one description: HTML that holds everything, and the same as Markdown."""

import base64
import re

import numpy as np
import pytest

from augcam.viz.grid import save_png
from augcam.viz.page import Bullets, Commands, Picture, Section, Table, write_markdown, write_page


@pytest.fixture
def sections(tmp_path) -> list[Section]:
    save_png(np.full((40, 60, 3), 200, np.uint8), tmp_path / "figures" / "a.png")
    return [
        Section(
            "First & last",
            "a < b, `x=<1>` and **bold**",
            blocks=[
                Table(
                    ["name", "count"],
                    [["a|b", "1,234"], ["<i>", "−0.5 ± 0.1"]],
                    "How many.",
                ),
                Table(["x"], [["y"]], "Folded `up`. And why.", folded=True),
                Picture(tmp_path / "figures" / "a.png", "A grey box", density=2),
                Bullets(["one", "two"]),
                Commands(["augcam report DIR > log"]),
            ],
        )
    ]


def test_the_page_holds_everything_and_runs_nothing(sections, tmp_path):
    write_page(tmp_path / "page.html", "A <title>", "summary", sections, key=["the **point**"])
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert "<i>" not in page
    assert "a &lt; b, <code>x=&lt;1&gt;</code> and <b>bold</b>" in page
    assert "<li>the <b>point</b></li>" in page
    (inside,) = re.findall(r"base64,([^']+)'", page)
    assert base64.b64decode(inside) == (tmp_path / "figures" / "a.png").read_bytes()
    assert "width='30'" in page  # half of its pixels
    assert "&gt; log</pre>" in page
    assert re.search(
        r"<details[^>]*><summary>Folded <code>up</code></summary>.*<p>And why.</p></details>", page
    )


def test_numbers_stand_at_the_right_and_words_at_the_left(sections, tmp_path):
    write_page(tmp_path / "page.html", "t", "s", sections)
    page = (tmp_path / "page.html").read_text()
    assert "<td class=number>1,234</td>" in page
    assert "<th class=number>count</th>" in page
    assert "<td>a|b</td>" in page


def test_many_sections_are_linked_from_above(tmp_path):
    several = [Section(f"Part {i}", "text") for i in range(5)]
    write_page(tmp_path / "page.html", "t", "s", several)
    page = (tmp_path / "page.html").read_text()
    links = re.findall(r"<a href='#([^']+)'", page)
    assert links == re.findall(r"<section id='([^']+)'", page)
    assert len(set(links)) == 5


def test_markdown_says_the_same(sections, tmp_path):
    write_markdown(tmp_path / "page.md", "A <title>", "summary", sections, key=["the point"])
    text = (tmp_path / "page.md").read_text()
    assert "# A \\<title>" in text
    assert "- the point" in text
    assert "`x=<1>`" in text
    assert "| a\\|b | 1,234 |" in text
    assert "![](figures/a.png)" in text
    assert "    augcam report DIR > log" in text
