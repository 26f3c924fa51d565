"""The pictures behind a verdict: images of the class with what was named, and other classes given it."""

import numpy as np

from augcam.audit.clusters import Cluster
from augcam.audit.interventions import Region, paste
from augcam.audit.measure import Audit, ClassAudit
from augcam.audit.nuisance import PROPERTIES
from augcam.explain.overlay import overlay
from augcam.viz.grid import CELL, captioned_grid

# Images side by side.
COLUMNS = 5


def of_the_class(result: Audit, label: int) -> np.ndarray:
    """Images of the class above, their maps below, the named part framed: uint8 (H, W, 3)."""
    one = result.classes[label]
    numbers, places = _examples(result, label, one)
    images = result.subject.images[numbers]
    rows = [[_framed(image, place) for image, place in zip(images, places, strict=True)]]
    if result.maps is not None:
        status = [result.maps.status[i] for i in numbers.tolist()]
        laid = overlay(images, result.maps.heat(numbers), status)
        rows.append([_framed(image, place) for image, place in zip(laid, places, strict=True)])
    return captioned_grid(rows, [""] * len(rows))


def given_to_others(result: Audit, label: int) -> np.ndarray | None:
    """Images of other classes above, the same with what was named below: uint8 (H, W, 3).

    Over each column what the network says before and after. None where nothing was named.
    """
    one, subject = result.classes[label], result.subject
    if one.patch is None and one.found is None:
        return None
    numbers, places = _examples(result, label, one)
    random = np.random.default_rng(label)
    right = np.flatnonzero((subject.labels != label) & (subject.predicted == subject.labels))
    if len(right) < len(numbers):
        return None
    receivers = random.permutation(right)[: len(numbers)]
    taken, given = subject.images[receivers], subject.images[numbers]
    if one.patch is not None:
        masks = np.stack([place.mask(subject.size) for place in places if place is not None])
        changed = paste(given, taken, masks)
    else:
        assert one.found is not None  # as above
        changed = PROPERTIES[one.found.name].set(taken, given)
    after = subject.ask(changed).argmax(1)
    headings = [
        f"{subject.classes[before]} →\n{subject.classes[now]}"
        for before, now in zip(subject.predicted[receivers], after, strict=True)
    ]
    rows = [
        [_framed(image, None) for image in taken],
        [_framed(image, place) for image, place in zip(changed, places, strict=True)],
    ]
    return captioned_grid(rows, ["", ""], headings)


def of_the_clusters(result: Audit, clusters: tuple[Cluster, ...]) -> np.ndarray:
    """A row of maps for each cluster, the most typical first: uint8 (H, W, 3)."""
    maps, subject = result.maps, result.subject
    assert maps is not None  # clusters are of maps
    rows, captions = [], []
    for number, cluster in enumerate(clusters, 1):
        some = cluster.members[: COLUMNS + 1]
        status = [maps.status[i] for i in some.tolist()]
        rows.append(list(overlay(subject.images[some], maps.heat(some), status)))
        captions.append(f"{number}: {cluster.share:.0%}\ncorrect {cluster.accuracy:.0%}")
    return captioned_grid([[_framed(image, None) for image in row] for row in rows], captions)


def _examples(result: Audit, label: int, one: ClassAudit) -> tuple[np.ndarray, list[Region | None]]:
    """Numbers of a few images that show what was named, and where it is in each."""
    if one.patch is not None:
        numbers = one.patch.carriers[:COLUMNS]
        return numbers, list(one.patch.regions[: len(numbers)])
    if one.found is not None:
        numbers = one.found.gives_away.donors[:COLUMNS]
    else:
        numbers = np.flatnonzero(result.subject.predicted == label)[:COLUMNS]
    return numbers, [None] * len(numbers)


def _framed(image: np.ndarray, region: Region | None) -> np.ndarray:
    """The image at about 128 pixels, with a frame just outside the region."""
    factor = max(1, round(CELL / max(image.shape[:2])))
    large = image.repeat(factor, 0).repeat(factor, 1)
    if region is None:
        return large
    # White in black, which is seen on any ground.
    box = np.array(region.box) * factor
    for away, colour in ((3, 0), (2, 255), (1, 0)):
        top, left = np.maximum(box[:2] - away, 0)
        bottom, right = np.minimum(box[2:] + away, large.shape[:2]) - 1
        large[top, left : right + 1] = large[bottom, left : right + 1] = colour
        large[top : bottom + 1, left] = large[top : bottom + 1, right] = colour
    return large
