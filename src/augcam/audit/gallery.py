"""Every image under audit in one part of the page: to be sorted and filtered, nothing from elsewhere.

Its markup and its script are in gallery.html; here are its numbers, and its pictures in one sheet.
"""

import base64
import io
import json
from importlib import resources
from typing import Any

import numpy as np
from PIL import Image

from augcam.audit.measure import Audit
from augcam.audit.places import border_region
from augcam.explain.cam import STATUSES
from augcam.explain.overlay import overlay

# Beyond this many images a page is too heavy for a phone.
MOST_IMAGES = 2000

# Pixels a side of an image in the sheet; small images are enlarged to it, large ones reduced.
_SIDE = 64

# Images side by side in the sheet, each beside its map.
_COLUMNS = 32


def gallery(result: Audit) -> str:
    """HTML of the gallery: numbers, pictures, markup and script."""
    # A class name may hold anything, "</script>" too.
    numbers = json.dumps(_content(result)).replace("<", "\\u003c")
    static = resources.files("augcam.audit").joinpath("gallery.html").read_text(encoding="utf-8")
    # In the rule itself: Chromium drops a custom property of megabytes.
    sheet = f"url(data:image/webp;base64,{_sheet(result)})"
    return (
        f"<style>.gallery .tile {{ background-image: {sheet} }}</style>"
        f'<script type="application/json" id="samples">{numbers}</script>\n{static}'
    )


def _content(result: Audit) -> dict[str, Any]:
    subject, maps = result.subject, result.maps
    count = min(MOST_IMAGES, len(subject.images))
    every = np.arange(count)
    cluster = np.zeros(len(subject.images), int)
    region: list[float | None] = [None] * count
    border: list[float | None] = [None] * count
    status = [0] * count
    predicted, confidence = subject.predicted.tolist(), subject.confidence.tolist()
    if maps is not None:
        usable = maps.usable[:count]
        at_border = maps.mass(every, border_region(subject.size).mask(subject.size)[None])
        border = [float(b) if ok else None for b, ok in zip(at_border, usable, strict=True)]
        status = [STATUSES.index(word) for word in maps.status[:count]]
        for label, one in enumerate(result.classes):
            for number, members in enumerate(one.clusters, 1):
                cluster[members.members] = number
            if one.patch is None or one.patch.region is None:
                continue
            own = np.flatnonzero((subject.predicted[:count] == label) & usable)
            inside = maps.mass(own, one.patch.region.mask(subject.size)[None])
            for i, share in zip(own.tolist(), inside.tolist(), strict=True):
                region[i] = share
    return {
        "classes": list(subject.classes),
        "status": [word.replace("_", " ") for word in STATUSES] if maps else ["not made"],
        "grid": [_COLUMNS, -(-count // _COLUMNS)],
        "samples": [
            {
                "number": i,
                "label": int(subject.labels[i]),
                "predicted": predicted[i],
                "confidence": round(confidence[i], 4),
                "cluster": int(cluster[i]),
                "region": _rounded(region[i]),
                "border": _rounded(border[i]),
                "status": status[i],
            }
            for i in range(count)
        ],
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _sheet(result: Audit) -> str:
    """All images, each beside its map, in one WebP picture, in Base64."""
    subject, maps = result.subject, result.maps
    count = min(MOST_IMAGES, len(subject.images))
    rows = -(-count // _COLUMNS)
    sheet = np.zeros((rows * _SIDE, _COLUMNS * 2 * _SIDE, 3), np.uint8)
    for start in range(0, count, 100):
        which = np.arange(start, min(start + 100, count))
        images = subject.images[which]
        laid = images
        if maps is not None:
            laid = overlay(images, maps.heat(which), [maps.status[i] for i in which.tolist()])
        for i, image, other in zip(which.tolist(), images, laid, strict=True):
            top, left = i // _COLUMNS * _SIDE, i % _COLUMNS * 2 * _SIDE
            sheet[top : top + _SIDE, left : left + _SIDE] = _small(image)
            sheet[top : top + _SIDE, left + _SIDE : left + 2 * _SIDE] = _small(other)
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, format="WEBP", quality=80, method=2)
    return base64.b64encode(content.getvalue()).decode()


def _small(image: np.ndarray) -> np.ndarray:
    kind = Image.Resampling.NEAREST if max(image.shape[:2]) <= _SIDE else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), kind))
