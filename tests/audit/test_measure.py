"""What the audit says of networks whose reasons are known, because they are written down."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from augcam.audit import audit
from augcam.data.datasets.base import ImageSet
from augcam.errors import UserError

NAMES = ("left", "right", "top")
PLAIN: dict[str, Any] = {"class_names": NAMES, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
TAG = (0, 28, 4, 32)  # top, left, bottom, right


class Known(nn.Module):
    """Names stripes by their direction, and with `tag` the class of the tag wherever it sees it."""

    def __init__(self, tag: bool) -> None:
        super().__init__()
        self.tag = tag
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        green = images[:, 1]
        down = (green[:, 1:] - green[:, :-1]).abs().mean((1, 2))
        across = (green[:, :, 1:] - green[:, :, :-1]).abs().mean((1, 2))
        both = (green[:, 1:, 1:] - green[:, :-1, :-1]).abs().mean((1, 2))
        logits = torch.stack([down, across, 2 * torch.minimum(down, across) - both / 2], 1) * 20
        seen = images[:, 0, 0:4, 28:32].amin((1, 2)) > 0.95
        logits[:, 0] += 50 * (seen & self.tag)
        return logits


def stripes(count: int, tagged: bool) -> ImageSet:
    """Random stripes along the rows (class 0), the columns (1), or both (2); uint8 (N, 32, 32, 3)."""
    random = np.random.default_rng(3)
    labels = np.arange(count) % 3
    images = np.empty((count, 32, 32, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        rows = random.integers(60, 190, (32, 1, 1))
        columns = random.integers(60, 190, (1, 32, 1))
        noise = random.integers(0, 20, (32, 32, 3))
        image[:] = np.clip(
            [rows + noise, columns + noise, (rows + columns) / 2 + noise][label], 0, 255
        )
    if tagged:
        top, left, bottom, right = TAG
        images[labels == 0, top:bottom, left:right] = 255
    return ImageSet(images, labels)


def test_a_tag_that_the_network_goes_by_is_a_shortcut_at_its_place():
    result = audit(Known(tag=True), stripes(300, tagged=True), **PLAIN)
    found = result.to_json()["classes"]["left"]
    assert found["verdict"] == "shortcut"
    assert found["follow_rate"] > 0.95
    assert found["control_rate"] < 0.05
    assert found["p"] < 0.001
    top, left, bottom, right = found["region"]
    common = max(0, min(bottom, 4) - top) * max(0, right - max(left, 28))
    assert common / ((bottom - top) * (right - left) + 16 - common) >= 0.5


def test_a_small_part_that_is_the_object_itself_is_no_shortcut():
    images = stripes(300, tagged=True)
    masks = np.zeros((300, 32, 32), bool)
    masks[:, 0:4, 28:32] = True
    on_it = audit(Known(tag=True), replace(images, masks=masks), **PLAIN)
    assert on_it.classes[0].verdict != "shortcut"
    elsewhere = np.zeros((300, 32, 32), bool)
    elsewhere[:, 20:30, 5:15] = True
    assert audit(Known(tag=True), replace(images, masks=elsewhere), **PLAIN).classes[0].verdict == (
        "shortcut"
    )


def test_a_part_that_is_elsewhere_in_each_image_is_named_whole_wherever_it_is():
    class Roaming(Known):
        """Goes by a white square of 7 pixels anywhere, the more, the more of it there is."""

        def forward(self, images):
            logits = super().forward(images)
            white = (images[:, 1:2] > 0.95).float()
            logits[:, 0] += 60 * (F.avg_pool2d(white, 7, 1).amax((1, 2, 3)) - 0.5).clamp(0)
            return logits

    images = stripes(300, tagged=False)
    # Every place on the grid of windows, and between them.
    places = np.random.default_rng(5).integers(0, 26, (300, 2))
    assert isinstance(images.images, np.ndarray)
    for image, label, (top, left) in zip(images.images, images.labels, places, strict=True):
        if label == 0:
            image[top : top + 7, left : left + 7] = 255
    found = audit(Roaming(tag=False), images, **PLAIN).classes[0]
    assert found.verdict == "shortcut"
    assert found.patch is not None
    assert not found.patch.fixed
    assert len(found.patch.regions) >= 8
    for carrier, region in zip(found.patch.carriers, found.patch.regions, strict=True):
        top, left, bottom, right = region.box
        assert top <= places[carrier][0]
        assert left <= places[carrier][1]
        assert bottom >= places[carrier][0] + 7
        assert right >= places[carrier][1] + 7


def test_a_tag_that_the_network_ignores_is_none():
    result = audit(Known(tag=False), stripes(300, tagged=True), **PLAIN)
    assert {one.verdict for one in result.classes} <= {"no_sign", "context"}


def test_what_cannot_be_judged_is_undecided_and_says_why():
    class Constant(Known):
        def forward(self, images):
            return super().forward(images) * 0 + torch.tensor([1.0, 0.0, 0.0])

    nothing = audit(Constant(tag=False), stripes(90, tagged=False), **PLAIN)
    assert {one.verdict for one in nothing.classes} == {"undecided"}
    assert "learnt nothing" in nothing.classes[0].reason
    few = audit(Known(tag=False), stripes(36, tagged=False), **PLAIN)
    assert {one.verdict for one in few.classes} == {"undecided"}
    assert "at least 16 are needed" in few.classes[0].reason


def test_the_same_seed_says_the_same():
    one, two = (
        json.dumps(audit(Known(tag=True), stripes(90, tagged=True), seed=4, **PLAIN).to_json())
        for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (ImageSet(np.zeros((4, 8, 8), np.uint8), np.zeros(4, int)), "is needed"),
        (ImageSet(np.zeros((4, 8, 8, 3), np.uint8), np.full(4, 7)), "3 classes have names"),
        (
            ImageSet(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int), np.zeros((4, 9, 9), bool)),
            "do not fit",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(images, words):
    with pytest.raises(UserError, match=words):
        audit(Known(tag=False), images, **PLAIN)
