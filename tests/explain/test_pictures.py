"""One's own pictures: which a pattern names, which can be used, and how many are explained at once."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augcam.data.normalize import normalize
from augcam.errors import UserError
from augcam.explain import pictures
from augcam.explain.pictures import matching, open_picture, own_pictures
from augcam.models.resnet import resnet
from augcam.runs.finished_run import FinishedRun
from augcam.runs.run_folder import RunFolder
from tests.conftest import batches_seen


def noise(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_a_bracket_in_a_name_is_no_pattern(tmp_path):
    for name in ("IMG[1].jpg", "IMG1.jpg", "IMG[2].jpg"):
        (tmp_path / name).touch()
    assert matching(f"{tmp_path}/IMG[1].jpg") == [tmp_path / "IMG[1].jpg"]
    assert matching(f"{tmp_path}/IMG[?].jpg") == [tmp_path / f"IMG[{i}].jpg" for i in (1, 2)]


# Pillow counts the frames of these by reading on, and ends in errors of all kinds.
@pytest.mark.parametrize("suffix", ["tif", "gif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.62, 0.66])
def test_a_truncated_picture_is_explained_or_refused_in_words(tmp_path, suffix, share):
    path = tmp_path / f"cut.{suffix}"
    noise(0).save(path, save_all=True, append_images=[noise(1)])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with suppress(UserError):
        whole, small = open_picture(path, 32)
        assert (whole.shape, small.shape) == ((200, 300, 3), (32, 32, 3))


def test_a_cameras_jpeg_of_two_pictures_is_no_animation(tmp_path):
    for suffix in ("jpg", "gif"):
        kind = "MPO" if suffix == "jpg" else "GIF"
        noise(0).save(tmp_path / f"two.{suffix}", kind, save_all=True, append_images=[noise(1)])
    noise(0).save(tmp_path / "one.jpg", "JPEG")
    for picture, alone in zip(
        *(open_picture(tmp_path / name, 32) for name in ("two.jpg", "one.jpg")), strict=True
    ):
        assert np.array_equal(picture, alone)
    with pytest.raises(UserError, match="animated, 2 frames"):
        open_picture(tmp_path / "two.gif", 32)


def run_of(folder: Path) -> FinishedRun:
    """A network of random weights that takes 32 pixels, without a test set."""
    torch.manual_seed(0)
    none = np.zeros(0, np.int64)
    return FinishedRun(
        RunFolder(folder),
        resnet(4, width=8, blocks=(1, 1, 1, 1)).eval(),
        ("cat", "dog", "bird", "ship"),
        lambda images: normalize(torch.from_numpy(images), (0.5,) * 3, (0.25,) * 3),
        np.zeros((0, 32, 32, 3), np.uint8),
        none,
        None,
        none,
        none.astype(np.float32),
    )


def test_many_pictures_go_through_the_network_in_parts_with_the_same_answers(tmp_path, monkeypatch):
    for number in range(3):
        noise(number).save(tmp_path / f"{number}.png")
    found = []
    for batch in (100, 2):
        monkeypatch.setattr(pictures, "_BATCH", batch)
        out = tmp_path / f"of {batch}"
        with batches_seen() as sizes:
            _, records = own_pictures(
                run_of(tmp_path), f"{tmp_path}/*.png", layer="layer3", method="gradcam", out=out
            )
        assert max(sizes) == min(batch, 3)
        drawn = np.stack([np.asarray(Image.open(out / f"{n:03d}.png")) for n in (1, 2, 3)])
        found.append((records, drawn.astype(int)))
    (whole, drawn), (parts, drawn_in_parts) = found
    assert [Path(one["file"]).name for one in parts] == ["0.png", "1.png", "2.png"]
    for one, other in zip(whole, parts, strict=True):
        for first, second in zip(one["top"], other["top"], strict=True):
            assert first["class"] == second["class"]
            assert first["probability"] == pytest.approx(second["probability"], abs=1e-4)
    assert np.abs(drawn - drawn_in_parts).max() <= 2
    assert np.abs(drawn[0] - drawn[1]).max() > 2
