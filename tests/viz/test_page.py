"""One page from one description: HTML that holds everything, and the same as Markdown."""

import base64
import re

import numpy as np
import pytest

from augcam.viz.grid import save_png
from augcam.viz.markdown import bullets, commands
from augcam.viz.page import (
    Folded,
    Page,
    Picture,
    Row,
    Section,
    Table,
    write_html,
    write_markdown,
)
from tests.browser import laid_out, needs_chromium


@pytest.fixture
def page(tmp_path) -> Page:
    save_png(np.full((40, 60, 3), 200, np.uint8), tmp_path / "figures" / "a.png")
    counts = Table(["name", "count"], [["a|b", "1,234"], ["<i>", "−0.5 ± 0.1"]], "How many.")
    section = Section(
        "First & last",
        [
            "a < b, `x=<1>` and **bold**",
            "",
            Row([counts, Picture(tmp_path / "figures" / "a.png", "A *grey* **box**", density=2)]),
            Table(["x"], [["**y**"]], "Folded `up`. And why.", folded=True),
            bullets(["one", "two"]),
            commands(["augcam report DIR > log"]),
        ],
    )
    return Page("A <title>", "in `short`", [section], ["the **point**"], ["**3** are missing"])


def html_of(page: Page, folder) -> str:
    write_html(folder / "page.html", page)
    return (folder / "page.html").read_text()


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *(
            (n, True)
            for n in ("1,234", "−0.5 ± 0.1", "+1.3 (0.6 to 2.0)", "<0.001", "12 min", "–", "")
        ),
        *((n, False) for n in ("2026-11-21_12-00-00_cutout_3fa9c1", "3d_aug", "cat", "n = 3")),
    ],
)
def test_a_column_of_numbers_is_set_as_such(cell, number):
    assert Table(["x"], [["5"], [cell]]).numeric == [number]


def test_the_page_holds_everything_and_runs_nothing(page, tmp_path):
    html = html_of(page, tmp_path)
    assert "<script" not in html
    assert "http" not in html
    assert "<i>" not in html
    assert "<title>A &lt;title&gt;</title>" in html
    assert "a &lt; b, <code>x=&lt;1&gt;</code> and <strong>bold</strong>" in html
    assert "<li>the <strong>point</strong></li>" in html
    (inside,) = re.findall(r'base64,([^"]+)"', html)
    assert base64.b64decode(inside) == (tmp_path / "figures" / "a.png").read_bytes()
    assert 'width="30"' in html  # half of its pixels
    assert 'alt="A grey box"' in html
    assert "&gt; log\n</code></pre>" in html
    folded = (
        r"<details[^>]*><summary>Folded <code>up</code></summary>.*<p>And why.</p>\s*</details>"
    )
    assert re.search(folded, html, re.DOTALL)


def test_cells_are_plain_numbers_at_the_right_and_words_at_the_left(page, tmp_path):
    html = html_of(page, tmp_path)
    assert '<td class="number">1,234</td>' in html
    assert '<th scope="col" class="number">count</th>' in html
    assert "<td>a|b</td>" in html
    assert "<td>**y**</td>" in html


def test_warnings_stand_in_a_box_of_their_own(page, tmp_path):
    boxes = re.findall(r'<div class="warnings".*?</div>', html_of(page, tmp_path), re.DOTALL)
    assert [re.findall("<li>(.*?)</li>", box) for box in boxes] == [
        ["<strong>3</strong> are missing"]
    ]


def test_many_sections_are_linked_from_above_each_by_its_own_name(tmp_path):
    several = [Section(name, ["text"]) for name in ("Part", "Part", "***", "β", "Part 1", "Part")]
    html = html_of(Page("t", "s", several), tmp_path)
    links = re.findall(r'<a href="#([^"]+)"', html)
    assert links == re.findall(r'<section id="([^"]+)"', html)
    assert len(set(links)) == len(several)


def test_markdown_says_the_same(page, tmp_path):
    write_markdown(tmp_path / "page.md", page)
    assert (
        (tmp_path / "page.md").read_text()
        == """\
# A \\<title>

in `short`

- the **point**

> [!WARNING]
> - **3** are missing

## First & last

a < b, `x=<1>` and **bold**

| name | count |
| --- | ---: |
| a\\|b | 1,234 |
| \\<i> | −0.5 ± 0.1 |

How many.

![](figures/a.png)

A *grey* **box**

| x |
| --- |
| \\*\\*y\\*\\* |

Folded `up`. And why.

- one
- two

```sh
augcam report DIR > log
```
"""
    )


def test_what_is_folded_is_there_in_both_forms(tmp_path):
    save_png(np.full((40, 60, 3), 200, np.uint8), tmp_path / "a.png")
    folded = Folded("More of `it`", ["words", Picture(tmp_path / "a.png", "a picture")])
    section = Section("One", [folded])
    assert [picture.caption for picture in section.pictures()] == ["a picture"]
    html = html_of(Page("Title", "", [section]), tmp_path)
    (inside,) = re.findall(r"<details>(.*?)</details>", html, flags=re.DOTALL)
    assert "<summary>More of <code>it</code></summary>" in inside
    assert "words" in inside
    assert "base64" in inside
    write_markdown(tmp_path / "page.md", Page("Title", "", [section]))
    assert "More of `it`\n\nwords" in (tmp_path / "page.md").read_text()


@needs_chromium
def test_the_browsers_check_sees_a_picture_that_says_nothing(tmp_path):
    page = tmp_path / "page.html"
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    page.write_text(
        '<!doctype html><html lang="en"><title>Page</title><style>body { background: #fff }</style>'
        f'<main><h1>Page</h1><p>Words.</p><img src="{dot}"></main></html>'
    )
    faults = laid_out(page, tmp_path, 1280, "light")["faults"]
    assert [fault.partition(":")[0] for fault in faults] == ["image-alt"]
