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
from augcam.audit.subject import Subject
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
    result = audit(Roaming(tag=False), images, **PLAIN)
    found = result.classes[0]
    assert found.verdict == "shortcut"
    assert found.patch is not None
    assert not found.patch.fixed
    assert len(found.patch.regions) >= 8
    where = places[result.numbers[found.patch.carriers]]
    for (its_top, its_left), region in zip(where, found.patch.regions, strict=True):
        top, left, bottom, right = region.box
        assert top <= its_top
        assert left <= its_left
        assert bottom >= its_top + 7
        assert right >= its_left + 7


class Bright(Known):
    """Goes by the stripes, and names class 0 the more readily, the brighter the image."""

    def __init__(self, weight: float) -> None:
        super().__init__(tag=False)
        self.weight = weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        logits[:, 0] += self.weight * (images.mean((1, 2, 3)) - 0.48).clamp(0)
        return logits


@pytest.mark.parametrize(("lifted", "verdict"), [(70, "shortcut"), (12, "context")])
def test_a_brightness_that_the_network_goes_by_is_named(lifted, verdict):
    images = stripes(450, tagged=False)
    assert isinstance(images.images, np.ndarray)
    random = np.random.default_rng(6)
    means = random.normal(0, 18, 450) + lifted * (images.labels == 0)
    changed = np.clip(images.images * 0.5 + 55 + means[:, None, None, None], 0, 255).astype(
        np.uint8
    )
    found = audit(Bright(60), ImageSet(changed, images.labels), **PLAIN).to_json()["classes"][
        "left"
    ]
    assert (found["verdict"], found["property"]) == (verdict, "brightness")
    assert found["follow_rate"] > found["control_rate"] + 0.2


def test_what_is_tried_on_few_images_is_counted_once_each():
    images = stripes(54, tagged=True)
    result = audit(Known(tag=True), images, **PLAIN)
    found = result.classes[0]
    assert found.verdict == "shortcut"
    assert found.patch is not None
    # Of the images of other classes half find the part, half test it.
    others = int(((result.subject.predicted != 0) & (result.subject.labels != 0)).sum())
    assert found.patch.effect.pairs == others - others // 2


def test_the_images_are_shuffled_and_their_numbers_known():
    images = stripes(90, tagged=False)
    result = audit(Known(tag=False), images, images=60, **PLAIN)
    assert sorted(result.numbers) != result.numbers.tolist()
    assert np.array_equal(result.subject.images, images.images[result.numbers])
    assert np.bincount(result.subject.labels).tolist() == [20, 20, 20]


def test_of_images_nearly_all_of_one_class_a_good_network_has_learnt_and_a_constant_one_not():
    labels = np.repeat([0, 1], [950, 50])
    subject = Subject(Known(tag=False), np.zeros((1000, 32, 32, 3), np.uint8), labels, None, NAMES,
                      (0.0,) * 3, (1.0,) * 3)  # fmt: skip
    answers = labels.copy()
    answers[:20], answers[-25:] = 1, 0  # 95.5% correct
    subject.logits = np.eye(3, dtype=np.float32)[answers]
    assert subject.has_learnt()
    subject.logits = np.eye(3, dtype=np.float32)[np.zeros(1000, int)]
    assert not subject.has_learnt()


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
        (ImageSet(np.zeros((4, 8, 8, 3)), np.zeros(4, int)), "float64: uint8 is needed"),
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
