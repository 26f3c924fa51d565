"""A page as a browser lays it out: chromium, headless, where there is one."""

import html
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, google-chrome or chrome on the PATH"
)

# An iframe, as a window is never narrower than 500 pixels; and the page itself has no script.
FRAME = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><body>
<iframe id="page" style="width: WIDTHpx; height: 800px; border: 0" srcdoc="@PAGE@"></iframe><script>
function luminance(colour) {  // WCAG 2.1's relative luminance, 0 black to 1 white
  const [r, g, b] = colour.match(/\\d+/g).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
}
onload = () => {
  const frame = document.getElementById("page").contentWindow, page = frame.document;
  page.querySelectorAll("details").forEach(folded => folded.open = true);
  const style = element => frame.getComputedStyle(element);
  function behind(element) {
    const own = style(element).backgroundColor;
    return own === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : own;
  }
  function contrast(element) {
    const [a, b] = [style(element).color, behind(element)].map(luminance).sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  }
  const texts = [...page.querySelectorAll("p, li, code, a, th, td, summary, figcaption, strong")];
  const cells = [...page.querySelectorAll("td, th")].filter(cell => cell.offsetWidth > 0);
  const seen = {
    width: page.documentElement.scrollWidth,
    broken: [...page.images].filter(image => !image.naturalWidth).length,
    images: page.images.length,
    headings: [...page.querySelectorAll("h2")].filter(h => h.offsetHeight > 0).map(h => h.textContent),
    overprinted: cells.filter(cell => cell.scrollWidth > cell.offsetWidth).map(c => c.textContent),
    paper: luminance(style(page.body).backgroundColor),
    contrast: Math.min(...texts.map(contrast)),
    loaded: frame.performance.getEntriesByType("resource").map(entry => entry.name)};
  frame.eval(@AXE@);
  frame.axe.run().then(found => {
    seen.faults = found.violations.filter(one => ["serious", "critical"].includes(one.impact))
      .map(one => one.id + ": " + one.nodes.map(node => node.target.join(" ")).join(", "));
    document.title = JSON.stringify(seen) }) };
</script>"""

# Deque's accessibility checker, https://github.com/dequelabs/axe-core, as a string of JavaScript.
AXE = json.dumps((files("axe_core_python") / "axe.min.js").read_text("utf-8")).replace("</", "<\\/")


def laid_out(page: Path, folder: Path, width: int, scheme: str) -> dict[str, Any]:
    """What a browser makes of a page, its details opened, in a window `width` pixels wide.

    Args:
        folder: for the browser's own files.
        scheme: light or dark.
    """
    assert CHROMIUM is not None
    source = page.read_text().replace("&", "&amp;").replace('"', "&quot;")
    frame = FRAME.replace("WIDTH", str(width)).replace("@AXE@", AXE).replace("@PAGE@", source)
    (folder / "frame.html").write_text(frame, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
            f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900",
            "--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom",
            f"file://{folder / 'frame.html'}",
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title
    seen: dict[str, Any] = json.loads(html.unescape(title[1]))
    assert seen["loaded"] == []  # nothing is asked of a network
    assert "CONSOLE" not in done.stderr
    return seen


def assert_legible(seen: dict[str, Any], width: int, scheme: str) -> None:
    """Nothing sticks out or overprints, every picture is there, and anybody can read it.

    Of axe-core's rules none may be broken whose impact it calls serious or critical.
    """
    assert seen["broken"] == 0
    assert seen["width"] <= width
    assert seen["overprinted"] == []
    assert (seen["paper"] < 0.1) == (scheme == "dark")
    assert seen["contrast"] >= 4.5  # WCAG's AA
    assert seen["faults"] == []
