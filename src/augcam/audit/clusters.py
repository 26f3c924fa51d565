"""The few ways in which a network looks at a class: its maps in clusters.

Spectral relevance analysis (SpRAy): Lapuschkin, Wäldchen, Binder, Montavon, Samek, Müller, "Unmasking
Clever Hans predictors", Nature Communications 10, 1096 (2019), with Grad-CAM in place of LRP.
"""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.linalg import eigh
from scipy.spatial import cKDTree

from augcam.audit.interventions import Region
from augcam.audit.maps import EvidenceMaps

# At most so many images of a class are clustered: the time grows with the third power.
_MOST_IMAGES = 400

# At most so many clusters: more cannot be looked at, and each must have images to be one.
_MOST_CLUSTERS = 4
_LEAST_MEMBERS = 5

# Images of a class below which there is nothing to cluster.
_LEAST_IMAGES = 4 * _LEAST_MEMBERS

# Side to which finer maps are averaged: a map's place matters, not its pixels.
_SIDE = 16


@dataclass(frozen=True)
class Cluster:
    """Images of a class whose maps are alike.

    Attributes:
        members: int (M,), numbers of the images, the most typical first.
        share: of the class's images.
        accuracy: of the answers to its members, 0..1.
        region: the box in which their mean map is above half of its peak.
    """

    members: np.ndarray
    share: float
    accuracy: float
    region: Region


def clusters(maps: EvidenceMaps, own: np.ndarray, right: np.ndarray) -> list[Cluster]:
    """Clusters of the maps of images, the largest first; a single one where they are all alike.

    The number is where the eigenvalues of the neighbours' graph leave the widest gap (von Luxburg, "A
    tutorial on spectral clustering", 2007).

    Args:
        own: int (n,), numbers of the images that the network assigns to a class.
        right: bool (N,), whether the answer is right.

    Returns:
        None of them where fewer than 20 maps have positive evidence.
    """
    members = own[maps.usable[own]][:_MOST_IMAGES]
    if len(members) < _LEAST_IMAGES:
        return []
    features = _features(maps.cells[members])
    labels = _spectral(features)
    found = []
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        centre = features[inside].mean(0)
        order = inside[np.argsort(((features[inside] - centre) ** 2).sum(1), kind="stable")]
        numbers = members[order]
        found.append(
            Cluster(
                numbers,
                len(numbers) / len(members),
                float(right[numbers].mean()),
                _bright(maps.density(numbers).mean(0)),
            )
        )
    return sorted(found, key=lambda one: -one.share)


def _features(cells: np.ndarray) -> np.ndarray:
    """Maps as vectors (n, d) of length 1, averaged to at most 16 cells a side."""
    height, width = cells.shape[1:]
    down, across = max(1, height // _SIDE), max(1, width // _SIDE)
    cut = cells[:, : height // down * down, : width // across * across]
    small = cut.reshape(len(cut), height // down, down, width // across, across).mean((2, 4))
    flat = small.reshape(len(cut), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    vectors: np.ndarray = flat / np.maximum(norms, 1e-12)
    return vectors


def _spectral(features: np.ndarray) -> np.ndarray:
    """The cluster of each row: int (n,). Ng, Jordan and Weiss (2001) on the k nearest neighbours."""
    count = len(features)
    near = min(count - 1, max(5, round(3 * np.log(count))))
    neighbours = cKDTree(features).query(features, near + 1)[1]
    joined = np.zeros((count, count))
    np.put_along_axis(joined, neighbours, 1.0, axis=1)
    np.fill_diagonal(joined, 0)
    joined = (joined + joined.T) / 2
    scale = 1 / np.sqrt(np.maximum(joined.sum(1), 1e-12))
    laplacian = np.eye(count) - scale[:, None] * joined * scale[None]
    values, vectors = eigh(laplacian, subset_by_index=[0, _MOST_CLUSTERS])
    for number in range(1 + int(np.argmax(np.diff(values))), 1, -1):
        rows = vectors[:, :number]
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        labels = kmeans2(rows, number, minit="++", rng=np.random.default_rng(0))[1]
        if np.bincount(labels, minlength=number).min() >= _LEAST_MEMBERS:
            found: np.ndarray = labels
            return found
    return np.zeros(count, np.int64)


def _bright(density: np.ndarray) -> Region:
    """The box of the pixels above half of the peak that hang together with it."""
    import cv2

    above = (density >= density.max() / 2).astype(np.uint8)
    _, parts = cv2.connectedComponents(above)
    rows, columns = np.nonzero(parts == parts[np.unravel_index(density.argmax(), density.shape)])
    return Region(
        (int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    )
