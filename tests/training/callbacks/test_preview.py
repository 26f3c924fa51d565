"""The picture that opens a run."""

import numpy as np
from PIL import Image

from tests.training.conftest import tiny_run


def test_a_run_that_mixes_shows_mixed_batches(tmp_path):
    pictures = []
    for mix in ("none", "mixup"):
        run = tiny_run(tmp_path / mix, "preview.samples=2", f"mix={mix}", "trainer.max_epochs=1")
        pictures.append(np.asarray(Image.open(run.folder.figures / "augmentation_preview.png")))
    plain, mixed = pictures
    assert mixed.shape[1] > plain.shape[1]  # its captions name the shares
