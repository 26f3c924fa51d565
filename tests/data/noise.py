"""Images of noise, as a data set."""

from typing import Any

import numpy as np

from augcam.data.datasets.base import ImageSet

AUG: dict[str, dict[str, Any]] = {
    "crop": {"_target_": "augcam.data.augment.PadCrop"},
    "flip": {"_target_": "albumentations.HorizontalFlip"},
    "noise": {"_target_": "albumentations.GaussNoise", "p": 0.3},
}


class Random:
    """40 training and 13 test images of noise; counts how often each split is read."""

    classes = ("a", "b", "c", "d")
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)

    def __init__(self, size: int = 40) -> None:
        self.size = size
        self.reads = {"prepare": 0, "train": 0, "test": 0}

    def prepare(self) -> None:
        self.reads["prepare"] += 1

    def train(self) -> ImageSet:
        self.reads["train"] += 1
        return self._draw(self.size)

    def test(self) -> ImageSet:
        self.reads["test"] += 1
        return self._draw(13)

    def fingerprint(self) -> str:
        return f"{self.size} images of noise"

    def _draw(self, size: int) -> ImageSet:
        random = np.random.default_rng(size)
        images = random.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8)
        return ImageSet(images, np.arange(size) % 4)
