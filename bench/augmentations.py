"""docs/augmentations.md: every pipeline, transform and mix of conf/, drawn and timed.

    AUGCAM_DATA=../shared/data python bench/augmentations.py            # a minute
    AUGCAM_DATA=../shared/data python bench/augmentations.py --words    # words only, not times

What stands above the marker of the page is written by hand. What each did in our study is read from the
report of that study, docs/examples/cifar10. Costs are microseconds an image in one
thread, of the fastest of seven repeats over 300 images of CIFAR-10, which a busy machine disturbs
least; that of a mix is for a batch of 128 on the CPU, the fastest of 30.
"""

import argparse
import re
import time
from pathlib import Path

import numpy as np
from _timing import composed, machine
from PIL import Image

from augcam.cli.preview import mixing_micros
from augcam.config.compose import CONF
from augcam.config.schema import Config
from augcam.data.augment.strength import table
from augcam.runs.build import build_run_pipeline, build_source
from augcam.viz.grid import captioned_grid

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "augmentations.md"
PICTURE = ROOT / "docs" / "images" / "augmentations.png"
STUDY = ROOT / "docs" / "examples" / "cifar10" / "report.md"
MARKER = "<!-- from here on by bench/augmentations.py -->"
ARXIV = re.compile(r"arXiv (\d{4}\.\d{5})")
DRAWS = 5


def names(group: str) -> list[str]:
    """The files of a group of conf/, without their endings."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def comment(group: str, name: str) -> str:
    """What the head of a file of conf/ says, on one line, papers as links."""
    lines = []
    for line in (CONF / group / f"{name}.yaml").read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", " ".join(lines))


def parameters(group: str, name: str) -> list[tuple[str, str, str]]:
    """(key, value, its comment) of a file of conf/."""
    found = []
    for line in (CONF / group / f"{name}.yaml").read_text().splitlines():
        match = re.match(r"\s*(\w+): *([^#]*?) *(?:# (.*))?$", line)
        if match and match[1] not in ("_target_", "defaults") and match[2]:
            found.append((match[1], match[2], match[3] or ""))
    return found


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def heading(*cells: str) -> list[str]:
    return [row(*cells), row(*["---"] * len(cells))]


def studied() -> tuple[str, dict[str, str]]:
    """What the study was, and what it says of each augmentation in it, in its report's own numbers."""
    lines = STUDY.read_text().splitlines()
    start = next(
        i for i, line in enumerate(lines) if line.startswith("| augmentation | test accuracy")
    )
    columns = [cell.strip() for cell in lines[start].strip("|").split("|")]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = dict(zip(columns, (c.strip() for c in line.strip("|").split("|")), strict=True))
        name, verdict = cells["augmentation"], cells["verdict"]
        if verdict == "baseline":
            found[name] = f"the baseline: {cells['test accuracy, %']}%"
            continue
        of = rf"^- {re.escape(name)}(?: (helps|hurts) (.*)|: no class .*)$"
        (said,) = (match for line in lines if (match := re.match(of, line)))
        by_class = f"; {said[1]} {said[2].rstrip('.')}" if said[1] else ""
        sure = f"{cells['95% interval']}, p {cells['adjusted p']}".replace("\\", "")
        difference = f"{cells['difference, points']} ({sure}), {verdict}"
        found[name] = f"{difference}{by_class}"
    return next(line for line in lines if line.startswith("cifar10, ")), found


def pipeline_micros(config: Config, images: np.ndarray) -> float:
    """Microseconds an image, the fastest of seven repeats."""
    pipeline = build_run_pipeline(config, build_source(config))
    found = []
    for epoch in range(7):
        began = time.perf_counter()
        for index, image in enumerate(images):
            pipeline(image, epoch, index)
        found.append((time.perf_counter() - began) / len(images) * 1e6)
    return min(found)


def mixing(config: Config, images: np.ndarray) -> float:
    """Microseconds an image of a mixed batch; 0 where nothing is mixed."""
    return 0.0 if config.mix.name == "none" else mixing_micros(config, images)


def picture(configs: dict[str, Config], image: np.ndarray) -> None:
    """One image through every pipeline, in two columns of rows, in 128 colours to keep it small."""
    rows = []
    for config in configs.values():
        pipeline = build_run_pipeline(config, build_source(config))
        rows.append([image, *(pipeline(image, draw, 0) for draw in range(DRAWS))])
    upper = -(-len(rows) // 2)
    labels = list(configs)
    grids = [captioned_grid(rows[i : i + upper], labels[i : i + upper]) for i in (0, upper)]
    canvas = np.full((max(len(g) for g in grids), sum(g.shape[1] for g in grids), 3), 255, np.uint8)
    canvas[: len(grids[0]), : grids[0].shape[1]] = grids[0]
    canvas[: len(grids[1]), grids[0].shape[1] :] = grids[1]
    small = Image.fromarray(canvas).resize(
        (canvas.shape[1] // 2, canvas.shape[0] // 2), Image.Resampling.BOX
    )
    PICTURE.parent.mkdir(exist_ok=True)
    small.quantize(128).save(PICTURE, optimize=True)


def page(micros: dict[str, str], measured_on: str) -> str:
    """What stands below the marker."""
    study, did = studied()
    lines = [
        MARKER, "", "## Every pipeline", "",
        f"![One CIFAR-10 image, raw at the left, and {DRAWS} draws of each pipeline]"
        f"(images/{PICTURE.name})", "",
        f"*The raw image and {DRAWS} draws of each pipeline. Made, and times measured, by "
        f"`python bench/augmentations.py` on {measured_on}: one thread, 32x32 pixels, the random "
        "part alone, one image at a time (training draws for whole batches, which makes some several "
        "times as fast: [performance](performance.md)), the fastest of seven repeats.*", "",
        "*In our study: the test accuracy less that of `none`, in points, with its 95% interval and "
        "adjusted p; the intervals and verdicts of all hold at once on 95% of pages (Bonferroni, Holm). "
        "Then the classes that differ: of all that are named, at most 5% are expected to be chance "
        "(Benjamini and Hochberg). From [its report](examples/cifar10/report.md): "
        f"{study.partition('. ')[0]}, four seeds each, in bf16 on two CPU cores. The ± of the baseline "
        "is half of its 95% interval. Holm's test can find what Bonferroni's wider interval does not. "
        "A dash: not part of it.*", "",
        *heading("`aug=`", "what it is", "transforms", "in our study", "µs an image"),
    ]  # fmt: skip
    for name in names("aug"):
        aug = composed(f"aug={name}").aug
        kinds = ", ".join(str(one["_target_"]).rpartition(".")[2] for one in aug.values() if one)
        what = comment("aug", name)
        lines.append(
            row(f"`{name}`", what, kinds or "-", did.get(name, "-"), micros[f"aug={name}"])
        )
    lines += ["", "## Every transform", "", "Added to any pipeline by `+aug/op@aug.NAME=NAME`.", ""]
    for name in names("aug/op"):
        lines += [f"### {name}", "", comment("aug/op", name), ""]
        lines += heading("key", "value", "")
        lines += [row(f"`{k}`", f"`{v}`", note) for k, v, note in parameters("aug/op", name)]
        lines.append("")
    lines += ["## Every mix", ""]
    lines += heading("`mix=`", "what it is", "parameters", "in our study", "µs an image")
    for name in names("mix"):
        keys = ", ".join(f"`{key}` {value}" for key, value, _ in parameters("mix", name))
        said = "-" if name == "none" else did.get(name, "-")  # there `none` is that of aug=
        lines.append(row(f"`{name}`", comment("mix", name), keys, said, micros[f"mix={name}"]))
    lines += ["", "## What `aug_strength` scales", "", *heading("transform", "scaled")]
    lines += [row(kind, words) for kind, words in table()]
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The page with its words made anew, and the times that it has."""
    above, _, below = text.partition(MARKER)
    kept = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", below, re.MULTILINE)
    mixes, counted = names("mix"), len(names("aug"))
    micros = {
        f"{'aug' if number < counted else 'mix'}={name}": value
        for number, (name, value) in enumerate(kept)
    }
    assert {f"mix={name}" for name in mixes} <= micros.keys()
    measured_on = re.search(r"augmentations.py` on (.*?): one thread", below)
    return above + page(micros, measured_on[1] if measured_on else "?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", action="store_true", help="keep the picture and the times")
    asked = parser.parse_args()
    text = PAGE.read_text()
    if asked.words:
        PAGE.write_text(rewritten(text))
        return
    configs = {name: composed(f"aug={name}") for name in names("aug")}
    images = build_source(configs["none"]).train().images[:300]
    found = {f"aug={name}": pipeline_micros(one, images) for name, one in configs.items()}
    found |= {f"mix={n}": mixing(composed(f"mix={n}"), images) for n in names("mix")}
    picture(configs, images[4])
    above = text.partition(MARKER)[0]
    PAGE.write_text(above + page({key: f"{v:.0f}" for key, v in found.items()}, machine()))


if __name__ == "__main__":
    main()
