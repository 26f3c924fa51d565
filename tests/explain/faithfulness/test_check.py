"""What is checked of a run, and what is refused before minutes of measuring instead of after them."""

import numpy as np
import pytest
import torch
from torch import nn

from augcam.errors import UserError
from augcam.explain.faithfulness import CHECKS, check
from augcam.explain.faithfulness.check import check_run
from augcam.runs.finished_run import FinishedRun
from augcam.runs.run_folder import RunFolder
from augcam.viz.terminal import progress_bars


@pytest.fixture
def measured(monkeypatch):
    """The calls of the measures, in order: their checks, the masks and the shape of the images."""
    calls = []

    def record(network, predict, explainers, images, targets, *, checks, masks=None, **_):
        calls.append((tuple(checks), masks, tuple(images.shape)))
        return []

    monkeypatch.setattr(check, "measure_faithfulness", record)
    monkeypatch.setattr(check, "untrained_network", lambda *_: nn.Identity())
    return calls


def a_run(classes: int, masks: np.ndarray | None = None, right: int | None = None) -> FinishedRun:
    """40 images of 8x8 pixels; of the first `right` classes all are classified correctly."""
    labels = np.arange(40) % classes
    known = labels < (right or classes)
    return FinishedRun(
        RunFolder("run"), nn.Identity(), tuple(map(str, range(classes))),
        lambda images: torch.from_numpy(images).permute(0, 3, 1, 2).float(),
        np.zeros((40, 8, 8, 3), np.uint8), labels, masks,
        np.where(known, labels, 0), np.ones(40, np.float32),
    )  # fmt: skip


def checked(run: FinishedRun, *checks: str):
    with progress_bars() as progress:
        return check_run(run, checks, layers=["layer1"], samples=40, seed=0, progress=progress)


OTHERS = tuple(name for name in CHECKS if name != "localisation")


def test_all_is_every_check_localisation_on_mosaics_or_on_the_masks(measured):
    _, count, where = checked(a_run(4), "all")
    assert (count, where) == (40, "localisation on 2x2 mosaics of test images")
    masks = np.ones((40, 8, 8), bool)
    assert checked(a_run(2, masks), "all")[2] == "localisation on the objects' own masks"
    of_mosaics, of_masks = measured[1], measured[3]
    assert [call[0] for call in measured] == [OTHERS, ("localisation",)] * 2
    assert of_mosaics[1].shape == (40, 16, 16)
    assert of_mosaics[2] == (40, 3, 16, 16)
    assert of_masks[1].shape == (40, 8, 8)


EMPTY = np.ones((40, 8, 8), bool)
EMPTY[7] = False


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (a_run(2), "a mosaic is made of four classes, and the images that may be used are of 2"),
        (a_run(8, right=3), "of four classes, and the images that may be used are of 3"),
        (a_run(4, EMPTY), "the mask of test image 7 is empty"),
    ],
    ids=["two classes", "three classes right", "an empty mask"],
)
def test_where_nothing_can_be_pointed_at_all_leaves_localisation_out(run, reason, measured, capsys):
    where = checked(run, "all")[2]
    assert where.startswith("localisation is left out: ")
    assert reason in where
    assert reason in capsys.readouterr().out.replace("\n", " ")
    assert [call[0] for call in measured] == [OTHERS]
    measured.clear()
    with pytest.raises(UserError, match=rf"^check=localisation: .*{reason}"):
        checked(run, "localisation", "road")
    assert measured == []  # nothing was measured in vain
