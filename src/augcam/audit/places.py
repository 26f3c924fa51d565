"""Where a class's maps lie, beside those of the network's other classes.

Three figures a class: the mean share of the evidence in the border, in its favourite corner, and how
much alike the maps are. Whether they are larger than the other classes' is tested by dealing the maps to
the classes anew: padding and the architecture shape the maps of all classes alike. What these do by
themselves is seen in the maps of networks with randomised weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from augcam.audit.interventions import Region
from augcam.audit.maps import EvidenceMaps
from augcam.statistics.families import holm

_RELABELLINGS = 999

_FIGURES = ("border", "corner", "alike")
CORNERS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class Placement:
    """Where the maps of a class lie.

    `others` is the mean of the network's other classes, `random` that of networks with randomised
    weights over all classes; None where there is none.

    Attributes:
        border, border_others, border_random: mean share of the evidence within an eighth of the image's
            side of the edge.
        corner, corner_others, corner_random: the same in the corner that has most of it, a square of a
            quarter of the side; `which` names it.
        alike, alike_others, alike_random: mean cosine of two maps of the class.
        p: of each of the three, `border`, `corner` and `alike`, against labels that have nothing to do
            with the maps; Holm over classes and figures.
        p_random: of each, that a network with randomised weights has as much; not corrected.
        images: with positive evidence.
    """

    border: float
    border_others: float
    corner: float
    corner_others: float
    which: str
    alike: float
    alike_others: float
    border_random: float | None
    corner_random: float | None
    alike_random: float | None
    p: dict[str, float]
    p_random: dict[str, float]
    images: int


def corner_regions(size: tuple[int, int]) -> list[Region]:
    """A square of a quarter of the shorter side in each corner, in the order of `CORNERS`."""
    height, width = size
    side = max(2, min(size) // 4)
    return [
        Region((top, left, top + side, left + side))
        for top in (0, height - side)
        for left in (0, width - side)
    ]


def border_region(size: tuple[int, int]) -> Region:
    """A frame of an eighth of the shorter side."""
    return Region((0, 0, *size), frame=max(1, min(size) // 8))


def placements(
    maps: EvidenceMaps,
    predicted: np.ndarray,
    audited: list[int],
    seed: int,
    randomised: Sequence[EvidenceMaps] = (),
) -> dict[int, Placement]:
    """The figures of each audited class that has two usable maps or more.

    Args:
        predicted: int (N,), the class that each map is for.
        randomised: maps of networks with randomised weights.
    """
    usable = np.flatnonzero(maps.usable)
    labels = predicted[usable]
    count = [int((labels == c).sum()) for c in audited]
    audited = [c for c, n in zip(audited, count, strict=True) if n >= 2]
    if len(audited) < 2:
        return {}
    measured = _measured(maps)
    classes = np.array(audited)[:, None]
    observed = _figures(*measured, labels == classes)
    random = np.random.default_rng([seed, 4])
    extreme = np.ones((len(audited), 3))
    for _ in range(_RELABELLINGS):
        dealt = _figures(*measured, random.permutation(labels) == classes)
        extreme += dealt[:, :3] >= observed[:, :3] - 1e-9
    p = holm((extreme / (_RELABELLINGS + 1)).ravel().tolist()).reshape(-1, 3)
    by_chance = np.array(
        [
            _figures(*_measured(one), np.ones((1, int(one.usable.sum())), bool))[0, :3]
            for one in randomised
            if one.usable.sum() >= 2
        ]
    ).reshape(-1, 3)
    p_random = (1 + (by_chance >= observed[:, None, :3]).sum(1)) / (1 + len(by_chance))
    common: list[float | None] = by_chance.mean(0).tolist() if len(by_chance) else [None] * 3
    result = {}
    for row, c in enumerate(audited):
        others = np.delete(observed[:, :3], row, axis=0).mean(0)
        own = observed[row]
        result[c] = Placement(
            float(own[0]), float(others[0]), float(own[1]), float(others[1]),
            CORNERS[int(own[3:].argmax())], float(own[2]), float(others[2]),
            common[0], common[1], common[2],
            dict(zip(_FIGURES, p[row].tolist(), strict=True)),
            dict(zip(_FIGURES, p_random[row].tolist(), strict=True)) if len(by_chance) else {},
            int((labels == c).sum()),
        )  # fmt: skip
    return result


def _measured(maps: EvidenceMaps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each usable map: its share in the border (n,), in each corner (n, 4), and itself (n, d)."""
    usable = np.flatnonzero(maps.usable)
    border = maps.mass(usable, border_region(maps.size).mask(maps.size)[None])
    corners = np.stack(
        [maps.mass(usable, r.mask(maps.size)[None]) for r in corner_regions(maps.size)], axis=1
    )
    flat = maps.cells[usable].reshape(len(usable), -1)
    return border, corners, flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _figures(
    border: np.ndarray, corners: np.ndarray, unit: np.ndarray, members: np.ndarray
) -> np.ndarray:
    """Border, favourite corner, alike, and each corner, of each group of bool (C, n): (C, 3 + 4)."""
    member = members.astype(np.float64)
    n = member.sum(1)
    in_corners = member @ corners / n[:, None]
    together = ((member @ unit) ** 2).sum(1)
    alike = (together - n) / (n * (n - 1))
    return np.column_stack([member @ border / n, in_corners.max(1), alike, in_corners])
