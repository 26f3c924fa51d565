"""audit.html: what it says, that it needs nothing from elsewhere, and that its advice can be run."""

import json
import re
import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from augcam.audit import advice, audit
from augcam.audit.gallery import gallery
from augcam.audit.interventions import Effect, Patch, Region
from augcam.audit.measure import ClassAudit
from augcam.audit.nuisance import PROPERTIES, GivesAway
from augcam.audit.page import write_audit_page
from augcam.audit.stability import Stability
from augcam.audit.verdict import PropertyEffect
from augcam.audit.words import place, sentence
from augcam.config.compose import CONF, compose
from augcam.config.schema import validate
from augcam.data.augment.build import build_pipeline
from augcam.data.datasets.base import ImageSet
from tests.browser import assert_legible, laid_out, needs_chromium

SIZE = (32, 32)
EFFECT = Effect(0.97, 0.02, 1e-9, 64)
NAMES = ("</script><b>red</b>", "green", "blue")


class Tagged(nn.Module):
    """Names the brightest channel, or class 0 where the upper left corner is white; has a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 4, stride=4, bias=False)
        weight = torch.zeros(4, 3, 4, 4)
        weight[range(3), range(3)] = 1 / 16
        weight[3] = 1 / 48
        self.features.weight.data = weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = self.features(images)
        colours = cells[:, :3].mean((2, 3)) * 20
        tag = torch.relu(cells[:, 3, 0, 0] - 0.95) * 400
        return torch.cat([colours[:, :1] + tag[:, None], colours[:, 1:]], 1)


@pytest.fixture(scope="module")
def result():
    random = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = random.integers(60, 160, (150, 32, 32, 3)).astype(np.uint8)
    images[np.arange(150), :, :, labels] += 12
    images[labels == 0, :4, :4] = 255
    return audit(
        Tagged(), ImageSet(images, labels), class_names=NAMES, mean=(0.0,) * 3, std=(1.0,) * 3
    )


def test_the_page_has_verdict_pictures_and_a_command_and_loads_nothing(result, tmp_path):
    path = tmp_path / "audit.html"
    given: dict[str, Any] = {
        "title": "By what",
        "summary": "A network.",
        "recorded": ["data=shapes", "name=a"],
    }
    write_audit_page(path, tmp_path / "audit", result, **given)
    page = path.read_text(encoding="utf-8")
    first = result.classes[0]
    assert first.verdict == "shortcut"
    assert "makes the network say" in page
    assert "python train.py data=shapes" in page
    assert "name=a" not in page
    assert page.count("<img") == len(list((tmp_path / "audit").glob("*.png"))) >= 2
    assert re.findall(r'(?:src=|href=)"(?!data:|#)|url\((?!data:)|@import', page) == []
    assert "http://" not in page
    assert "https://" not in page
    assert "<b>red</b>" not in page


def test_where_the_training_command_is_not_known_the_augmentation_alone_is_named(result, tmp_path):
    path = tmp_path / "audit.html"
    write_audit_page(path, tmp_path / "audit", result, title="a", summary="b", recorded=None)
    page = path.read_text(encoding="utf-8")
    assert "The augmentation, as <code>train.py</code> takes it" in page
    assert "++aug.crop_away=" in page
    assert "python train.py" not in page


def test_the_gallery_has_every_image_with_its_numbers(result):
    html = gallery(result)
    found = re.search(r'<script type="application/json" id="samples">(.*?)</script>', html)
    content = json.loads(found[1])
    subject = result.subject
    assert content["classes"] == list(NAMES)
    assert [one["label"] for one in content["samples"]] == subject.labels.tolist()
    assert [one["predicted"] for one in content["samples"]] == subject.predicted.tolist()
    for one in content["samples"]:
        assert one["confidence"] == pytest.approx(subject.confidence[one["number"]], abs=1e-4)
        assert (one["region"] is None) == (one["predicted"] != 0)
        assert 0 <= one["border"] <= 1
    columns, rows = content["grid"]
    assert columns * rows >= 150


def test_a_sentence_has_the_place_and_the_figures():
    patch = Patch(EFFECT, True, Region((0, 28, 4, 32)), np.arange(3), [], 1.0, 1.0, 16 / 1024)
    one = ClassAudit("ship", "shortcut", "", 100, patch, None, 0.5, 1e-9, evidence=0.83)
    said = sentence(one, SIZE)
    assert "4x4 pixels in the upper right corner (rows 0 to 3, columns 28 to 31)" in said
    assert "found in 100% of the images tried" in said
    assert "83% of the evidence on 1.6% of the image" in said
    assert 'say "ship" in 97%' in said
    assert "its control does in 2%" in said
    assert "in the middle (" in place(Region((14, 14, 18, 18)), SIZE)
    assert "the middle of the lower side" in place(Region((30, 0, 32, 32)), SIZE)


def caused(patch: Patch | None, name: str) -> ClassAudit:
    away = GivesAway(0.9, 0.2, 0.01, np.arange(3))
    found = PropertyEffect(name, away, EFFECT, 0.5) if name else None
    return ClassAudit("ship", "shortcut", "", 100, patch, found)


BOXES = {"corner": (0, 28, 4, 32), "middle": (14, 14, 18, 18), "anywhere": (3, 9, 11, 17)}


def part(kind: str) -> ClassAudit:
    region = Region(BOXES[kind])
    fixed = kind != "anywhere"
    patch = Patch(EFFECT, fixed, region if fixed else None, np.arange(1), [region], 1, 1, 0.02)
    return caused(patch, "")


EVERY = [*(caused(None, name) for name in PROPERTIES), *map(part, BOXES)]


@pytest.mark.parametrize("one", EVERY, ids=[*PROPERTIES, *BOXES])
def test_what_to_do_is_a_command_that_train_takes(one):
    base = ["data=shapes", "aug=none"]
    of_that_run = ["hydra.run.dir=x", "~hydra.y", "sweep.name=z", "++sweep.dir=z", "name=z"]
    line = advice.command([*of_that_run, *base], advice.overrides(one, SIZE, {}))
    assert not any(word in line for word in ("hydra", "sweep", "name="))
    words = shlex.split(line)
    assert words[:2] == ["python", "train.py"]
    pipeline = validate(compose(words[2:])).aug
    assert len(build_pipeline(pipeline, 1, mean=lambda: (0.5,) * 3).transforms) == 1


@pytest.mark.parametrize("aug", sorted(path.stem for path in (CONF / "aug").glob("*.yaml")))
def test_no_pipeline_refuses_what_is_to_be_done_now_or_after_the_next_audit(aug):
    recorded = [f"aug={aug}"]
    commands: list[list[str]] = []
    first = pipeline = validate(compose(recorded)).aug
    for _audit in range(2):
        # All at once: what takes them together takes each.
        added = [word for one in EVERY for word in advice.overrides(one, SIZE, pipeline)]
        recorded = shlex.split(advice.command(recorded, list(dict.fromkeys(added))))[2:]
        pipeline = validate(compose(recorded)).aug
        build_pipeline(pipeline, 1, mean=lambda: (0.5,) * 3)
        commands.append(recorded)
    assert pipeline.keys() > first.keys()
    assert sorted(commands[0]) == sorted(commands[1])  # nothing is said twice


@pytest.mark.parametrize("gone", ["aug.cutout=null", "~aug.cutout"])
def test_a_step_that_was_taken_out_stays_out_beside_what_is_added(gone):
    recorded = ["aug=cutout_rotate", "~aug.flip", gone]
    pipeline = validate(compose(recorded)).aug
    line = advice.command([*recorded, "~hydra.x"], advice.overrides(part("middle"), SIZE, pipeline))
    aug = validate(compose(shlex.split(line)[2:])).aug
    assert {name for name, step in aug.items() if step} == {"rotate", "more_cutout"}


def test_the_crop_of_a_second_audit_keeps_that_of_the_first():
    recorded = ["aug=none"]
    for box in ((29, 0, 32, 32), (0, 28, 4, 32)):
        patch = Patch(EFFECT, True, Region(box), np.arange(1), [], 1, 1, 0.1)
        pipeline = validate(compose(recorded)).aug
        added = advice.overrides(caused(patch, ""), SIZE, pipeline)
        recorded = shlex.split(advice.command(recorded, added))[2:]
    (step,) = validate(compose(recorded)).aug.values()
    assert step["px"] == [-4, 0, -3, 0]


def test_maps_that_do_not_follow_are_unstable_and_those_that_never_move_are_not():
    moves = {
        "follows": Stability(0.9, 0.3, 1e-4, 20),
        "does not": Stability(0.3, 0.3, 0.6, 20),
        "is always there": Stability(0.95, 0.95, 0.6, 20),
    }
    assert replace(caused(None, "colour"), stability=moves).unstable == ["does not"]


def test_a_part_at_the_edge_is_cropped_away_on_its_own_side():
    patch = Patch(EFFECT, True, Region((29, 0, 32, 32)), np.arange(1), [], 1, 1, 0.1)
    (crop,) = advice.overrides(caused(patch, ""), SIZE, {})
    assert "px: [0, 0, -3, 0]" in crop


def test_where_nothing_was_named_there_is_nothing_to_do():
    assert advice.overrides(ClassAudit("ship", "look", "", 100), SIZE, {}) == []


def test_maps_without_evidence_are_said_to_have_none(result, tmp_path):
    status = ("no_positive_evidence",) * 40 + result.maps.status[40:]
    poorer = replace(result, maps=replace(result.maps, status=status))
    given: dict[str, Any] = {"title": "By what", "summary": "A network.", "recorded": None}
    without = tuple(replace(one, clusters=()) for one in result.classes)
    bare = replace(result, maps=None, classes=without)
    for one, words in (
        (poorer, "40 of 150 maps have no positive evidence"),
        (bare, "No layer of this network"),
    ):
        write_audit_page(tmp_path / "audit.html", tmp_path / "audit", one, **given)
        assert words in (tmp_path / "audit.html").read_text(encoding="utf-8")


@needs_chromium
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_verdicts_and_gallery(result, tmp_path, width, scheme):
    path = tmp_path / "audit.html"
    given: dict[str, Any] = {"title": "By what", "summary": "A network.", "recorded": None}
    write_audit_page(path, tmp_path / "audit", result, **given)
    seen = laid_out(path, tmp_path, width, scheme)
    assert seen["headings"][0] == f"{NAMES[0]}: shortcut"
    assert seen["headings"][-1] == "Every image"
    assert_legible(seen, width, scheme)
