"""audit.html: the verdicts, the pictures behind them, what to do, and every image."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from augcam.audit import advice, pictures
from augcam.audit.gallery import MOST_IMAGES, gallery
from augcam.audit.measure import Audit, ClassAudit
from augcam.audit.words import sentence
from augcam.viz.grid import save_png
from augcam.viz.markdown import commands, plain
from augcam.viz.page import Block, Embedded, Page, Picture, Section, Table, write_html
from augcam.viz.words import listed, plural

# The worst first.
_ORDER = ("shortcut", "context", "look", "undecided", "no_sign")

# Of classes without a sign so many have their clusters drawn.
_MOST_DRAWN = 20

_RATE = (
    "Each cue was tested on images of other classes that it had not been found with, at 5% over all "
    "classes and interventions of this page together (Holm's method). How often a verdict was wrong on "
    "networks whose cue is known is in AugCAM's documentation, docs/audit.md."
)


def write_audit_page(
    path: Path,
    folder: Path,
    result: Audit,
    *,
    title: str,
    summary: str,
    recorded: Sequence[str] | None,
    pipeline: advice.Steps = MappingProxyType({}),
) -> None:
    """Write the page and its pictures.

    Args:
        path: the HTML file; it is put in place whole.
        folder: of the PNG files, which are inside the page too.
        title, summary: plain texts.
        recorded: the overrides that the run began with; None where the network was not trained here.
        pipeline: the run's own, as its config has it.
    """
    size = result.subject.size
    ordered = sorted(enumerate(result.classes), key=lambda pair: _ORDER.index(pair[1].verdict))
    named = [(label, one) for label, one in ordered if one.verdict in _ORDER[:3]]
    others = [(label, one) for label, one in ordered if one.verdict not in _ORDER[:3]]
    sections = [
        _section(result, label, one, folder, _what_to_do(one, size, recorded, pipeline))
        for label, one in named
    ]
    if others:
        sections.append(_others(result, others, folder))
    sections.append(_every_image(result))
    key = [plain(sentence(one, size)) for _, one in named]
    quiet = [one.name for _, one in others if one.verdict == "no_sign"]
    if quiet:
        key.append(plain(f"{listed(quiet)}: no sign. A cue that was not tried is not excluded"))
    undecided = [one.name for _, one in others if one.verdict == "undecided"]
    if undecided:
        key.append(plain(f"{listed(undecided)}: undecided"))
    write_html(path, Page(title, plain(f"{summary} {_RATE}"), sections, key, _warnings(result)))


def _warnings(result: Audit) -> list[str]:
    """What the maps cannot say."""
    if not result.settings["learnt"]:
        return []
    if result.maps is None:
        return ["No layer of this network makes a map: the verdicts rest on interventions alone."]
    empty = int((~result.maps.usable).sum())
    if not empty:
        return []
    return [
        f"{empty:,} of {len(result.maps.status):,} maps have no positive evidence for what the network "
        "answers. They are grey, and count neither in clusters nor in places."
    ]


def _what_to_do(
    one: ClassAudit,
    size: tuple[int, int],
    recorded: Sequence[str] | None,
    pipeline: advice.Steps,
) -> str:
    added = advice.overrides(one, size, pipeline)
    if not added:
        return ""
    decide = (
        "Take the cue out of the data, or train against it and audit again"
        if one.verdict == "shortcut"
        else "Decide whether the network may use it: where it is to work, does the context come with "
        "the class? If not, train against it and audit again"
    )
    if recorded is None:  # how it was trained is not known
        return (
            f"**What to do.** {decide}. The augmentation, as `train.py` takes it:\n\n"
            f"{commands([shlex.join(added)])}"
        )
    return f"**What to do.** {decide}:\n\n{commands([advice.command(recorded, added)])}"


def _section(result: Audit, label: int, one: ClassAudit, folder: Path, to_do: str) -> Section:
    blocks: list[Block] = [plain(sentence(one, result.subject.size))]
    layer = f"Grad-CAM at {result.maps.layer}" if result.maps else "no layer makes a map"
    if one.on_object is not None:
        layer += f", {one.on_object:.0%} of it on the object"
    blocks.append(
        _picture(
            folder / f"class_{label:03d}.png",
            pictures.of_the_class(result, label),
            f"Images that the network calls {plain(one.name)}; below, where its evidence lies "
            f"({layer}).",
        )
    )
    if one.unstable:
        blocks.append(_unstable(one))
    changed = pictures.given_to_others(result, label)
    if changed is not None:
        what = plain(one.found.name) if one.found else "the framed part"
        blocks.append(
            _picture(
                folder / f"class_{label:03d}_given.png",
                changed,
                "Images of other classes that the network gets right, chosen at random, and the same "
                f"with {what} of the images above. Over each column what the network says before and "
                "after.",
            )
        )
    blocks += [to_do, *_clusters(result, label, one, folder)]
    return Section(f"{one.name}: {one.verdict.replace('_', ' ')}", [b for b in blocks if b])


def _unstable(one: ClassAudit) -> str:
    cosines = [
        f"{plain(name)}: {one.stability[name].cosine:.2f}, with another image's map "
        f"{one.stability[name].control:.2f}"
        for name in one.unstable
    ]
    return (
        "**These maps are unstable.** Transformed as in training, the map does not move with its image "
        f"more than another image's would (median cosine; {'; '.join(cosines)}). Do not read them as "
        "evidence; the interventions do not rest on them."
    )


def _clusters(result: Audit, label: int, one: ClassAudit, folder: Path) -> list[Block]:
    if not one.clusters:
        return []
    alike = (
        "all alike"
        if len(one.clusters) == 1
        else f"in {len(one.clusters)} clusters (spectral, by the maps)"
    )
    return [
        _picture(
            folder / f"class_{label:03d}_clusters.png",
            pictures.of_the_clusters(result, one.clusters),
            f"How the network looks at {plain(one.name)}: the maps are {alike}; a row each, its share "
            "of the images, and how often the answer is correct.",
        )
    ]


def _others(result: Audit, others: list[tuple[int, ClassAudit]], folder: Path) -> Section:
    rows = [
        [one.name, one.verdict.replace("_", " "), one.reason, f"{one.images:,}"]
        for _, one in others
    ]
    blocks: list[Block] = [Table(("class", "verdict", "why", "images"), rows)]
    for label, one in others[:_MOST_DRAWN]:
        blocks += _clusters(result, label, one, folder)
    return Section("Other classes", blocks)


def _every_image(result: Audit) -> Section:
    count = len(result.subject.images)
    text = f"{plural(min(count, MOST_IMAGES), 'image')}, each beside the map of its prediction."
    if count > MOST_IMAGES:
        text = f"The first {text[0].lower()}{text[1:]} of {count:,}."
    return Section("Every image", [text, Embedded(gallery(result))])


def _picture(path: Path, drawn: np.ndarray, caption: str) -> Picture:
    save_png(drawn, path)
    return Picture(path, caption)
