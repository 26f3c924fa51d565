"""Maps that know nothing of the network: what a measure gives for free."""

import numpy as np
from scipy import ndimage
from torch import Tensor

from augcam.explain.faithfulness.maps import MapArray, Stream, cleaned, stream


def shuffled(maps: MapArray, seed: int = 0) -> np.ndarray:
    """The same cells in random places: the random map that is matched to each map.

    A random map of independent pixels is no fair opponent of a coarse map. Enlarged from 4x4 cells
    even noise removes whole patches, which hurts a network at another pace than scattered pixels
    do. Shuffled before it is enlarged, a map keeps its grid, its values and its share of zeros and
    loses only the places: all that is left to differ is what the map says.

    Args:
        maps: (B, h, w) of the layer's own size.
        seed: of the order; maps of one grid are shuffled alike, so equal maps stay equal.

    Returns:
        (B, h, w) float64; each image in an order of its own, degenerate maps zero.
    """
    values, _ = cleaned(maps)
    flat = values.reshape(len(values), -1)
    return stream(seed, Stream.SHUFFLE).permuted(flat, axis=1).reshape(values.shape)


def centre_map(images: Tensor) -> np.ndarray:
    """A Gaussian about the middle, standard deviation a quarter of each side.

    Args:
        images: (B, C, H, W); only their size counts.

    Returns:
        (B, H, W) float32 in 0..1.
    """
    count, _, height, width = images.shape
    # Distances from the middle in standard deviations; the middle lies between pixels if even.
    rows = (np.arange(height) - (height - 1) / 2) / (height / 4)
    columns = (np.arange(width) - (width - 1) / 2) / (width / 4)
    centre = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / 2).astype(np.float32)
    return np.repeat(centre[None], count, axis=0)


def edge_map(images: Tensor) -> np.ndarray:
    """The magnitude of the Sobel gradient of the channels' mean, scaled by its maximum.

    Args:
        images: (B, C, H, W) float.

    Returns:
        (B, H, W) float32 in 0..1; zero for a flat image.
    """
    grey = images.detach().float().mean(1).cpu().numpy()
    # One image at a time: `sobel` smooths along every other axis, the batch included.
    edge = np.stack([np.hypot(ndimage.sobel(one, 0), ndimage.sobel(one, 1)) for one in grey])
    peak = edge.max((1, 2), keepdims=True)
    return edge / np.where(peak > 0, peak, 1)


# What is drawn from the image alone, by name.
IMAGE_BASELINES = {"centre": centre_map, "edge": edge_map}
