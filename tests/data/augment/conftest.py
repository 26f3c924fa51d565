"""Shared by the tests of augmentation."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
