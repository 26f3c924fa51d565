"""Pictures for whichever loggers there are. tests/training/test_trainer.py has each logger whole."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger

from augcam.training.callbacks.pictures import keep_picture, log_image, log_scalars, tensorboard

PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def trainer(*loggers: object, first: bool = True) -> Any:
    return SimpleNamespace(is_global_zero=first, loggers=loggers)


def test_beside_a_csv_file_a_picture_is_a_png(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    log_image(trainer(logger), "gradcam/tracked", PICTURE, 3)
    with Image.open(tmp_path / "images" / "gradcam" / "tracked_0003.png") as image:
        assert np.array_equal(np.asarray(image), PICTURE)


def test_other_ranks_than_the_first_show_nothing(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    silent = trainer(logger, first=False)
    log_image(silent, "x", PICTURE, 1)
    log_scalars(silent, {"x": 1.0}, 1)
    assert tensorboard(silent) is None
    assert logger.experiment.metrics == []
    assert not list(tmp_path.rglob("*.png"))


def test_a_picture_that_cannot_be_written_costs_a_warning(tmp_path, caplog):
    (tmp_path / "figures").write_text("a file is in the way")
    keep_picture(PICTURE, tmp_path / "figures" / "x.png")
    assert f"{tmp_path / 'figures' / 'x.png'} is missing: File exists" in caplog.text
