"""How few pixels hold a map's mass."""

import numpy as np

from augcam.explain.faithfulness.maps import MapArray, cleaned


def concentration(maps: MapArray) -> np.ndarray:
    """How few pixels hold the positive mass: the Gini index (Hurley, Rickard, arXiv 0811.4706).

    Scaled by N / (N - 1) so that all mass on one pixel is exactly 1. Negative values count as 0;
    a degenerate map, and one without any positive value, is even: 0.

    Args:
        maps: (B, h, w).

    Returns:
        (B,) in 0..1: 0 for mass spread evenly, 1 for a single pixel.
    """
    values, _ = cleaned(maps)
    mass = np.sort(values.reshape(len(values), -1).clip(min=0), axis=1)
    pixels = mass.shape[1]
    # The mean absolute difference over all pairs of pixels, written for sorted values.
    weights = 2 * np.arange(1, pixels + 1) - pixels - 1
    total = mass.sum(1)
    gini = (mass * weights).sum(1) / (np.where(total > 0, total, 1) * max(1, pixels - 1))
    return gini.clip(0, 1)
