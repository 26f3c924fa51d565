"""Is the map true? Measures of activation maps, with baselines, intervals and a table of all.

A map is judged by what happens when the pixels it names are removed (insertion and deletion,
ROAD), when the image or the network changes (max-sensitivity, cascading randomisation) and by where
it points when the answer is known (localisation). Maps, networks and functions come as arguments.

Throughout, B is the number of images and N = H * W of their pixels. Measures come back as one
float64 per image, NaN where one is undefined. Equal values of a map are ordered at random by the
seed, the same way for every map of an image; a *degenerate* map (constant, or with a value that is
not finite) says nothing about any pixel and is ranked like a random one. Everything random follows
from the seed alone, whatever the batch; only new weights also depend on the kind of device.
"""

import numpy as np
from scipy import ndimage
from torch import Tensor

from augcam.explain.faithfulness.maps import _RANDOM_MAP, Maps, _clean


# --------------------------------------------------- concentration, baselines, intervals
def concentration(maps: Maps) -> np.ndarray:
    """How few pixels hold the positive mass: the Gini index (Hurley, Rickard, arXiv 0811.4706).

    Scaled by N / (N - 1) so that all mass on one pixel is exactly 1. Negative values count as 0;
    a degenerate map, and one without any positive value, is even: 0.

    Args:
        maps: (B, h, w).

    Returns:
        (B,) in 0..1: 0 for mass spread evenly, 1 for a single pixel.
    """
    values, _ = _clean(maps)
    mass = np.sort(values.reshape(len(values), -1).clip(min=0), axis=1)
    pixels = mass.shape[1]
    # The mean absolute difference over all pairs of pixels, written for sorted values.
    weights = 2 * np.arange(1, pixels + 1) - pixels - 1
    total = mass.sum(1)
    gini = (mass * weights).sum(1) / (np.where(total > 0, total, 1) * max(1, pixels - 1))
    return gini.clip(0, 1)


def baselines(images: Tensor, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps that know nothing of the network: what a measure gives for free.

    Args:
        images: (B, C, H, W) float.
        seed: of the random map.

    Returns:
        (B, H, W) float32 in 0..1 each: `random` (uniform, independent pixels), `centre` (a Gaussian
        about the middle, standard deviation a quarter of each side) and `edge` (magnitude of the
        Sobel gradient of the channels' mean, scaled by its maximum in the image).
    """
    count, _, height, width = images.shape
    generator = np.random.default_rng([seed, _RANDOM_MAP])
    # Distances from the middle in standard deviations; the middle lies between pixels if even.
    rows = (np.arange(height) - (height - 1) / 2) / (height / 4)
    columns = (np.arange(width) - (width - 1) / 2) / (width / 4)
    centre = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / 2).astype(np.float32)
    grey = images.detach().float().mean(1).cpu().numpy()
    # One image at a time: `sobel` smooths along every other axis, the batch included.
    edge = np.stack([np.hypot(ndimage.sobel(one, 0), ndimage.sobel(one, 1)) for one in grey])
    peak = edge.max((1, 2), keepdims=True)
    return {
        "random": generator.random((count, height, width), dtype=np.float32),
        "centre": np.repeat(centre[None], count, axis=0),
        "edge": edge / np.where(peak > 0, peak, 1),
    }
