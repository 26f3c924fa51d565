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

# At least so many relabellings, and so many for each class: Holm needs smaller p, the more classes.
_RELABELLINGS, _FOR_A_CLASS = 999, 80

_FIGURES = ("border", "corner", "alike")
CORNERS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class Placement:
    """Where the maps of a class lie.

    `others` is the mean of the network's other classes, `random` that of networks with randomised
    weights on images of the class; None where these make no map.

    Attributes:
        border, border_others, border_random: mean share of the evidence within an eighth of the image's
            side of the edge.
        corner, corner_others, corner_random: the same in the corner that has most of it, a square of a
            quarter of the side; `which` names it.
        alike, alike_others, alike_random: mean cosine of two maps of the class.
        p: of each of the three, `border`, `corner` and `alike`, against labels that have nothing to do
            with the maps; Holm over classes and the first two, on which verdicts rest, and for `alike`
            over classes.
        p_random: of each, that a network with randomised weights has as much; not corrected. One
            without maps has less.
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
    randomised: Sequence[tuple[EvidenceMaps, np.ndarray]],
) -> dict[int, Placement]:
    """The figures of each audited class that has two usable maps or more.

    Args:
        predicted: int (N,), the class that each map is for.
        randomised: maps by networks with randomised weights, and the class of each, int (n,).
    """
    usable = np.flatnonzero(maps.usable)
    labels = predicted[usable]
    audited = [c for c in audited if (labels == c).sum() >= 2]
    if len(audited) < 2:
        return {}
    measured = _measured(maps)
    classes = np.array(audited)[:, None]
    observed = _figures(*measured, labels == classes)
    random = np.random.default_rng([seed, 4])
    rounds = max(_RELABELLINGS, _FOR_A_CLASS * len(audited) - 1)
    extreme = np.ones((len(audited), 3))
    for _ in range(rounds):
        dealt = _figures(*measured, random.permutation(labels) == classes)
        extreme += dealt[:, :3] >= observed[:, :3] - 1e-9
    p = extreme / (rounds + 1)
    p[:, :2] = holm(p[:, :2].ravel().tolist()).reshape(-1, 2)
    p[:, 2] = holm(p[:, 2].tolist())
    by_chance = np.full((len(randomised), len(audited), 3), np.nan)
    for found, (theirs, of) in zip(by_chance, randomised, strict=True):
        if theirs.usable.any():
            found[:] = _figures(*_measured(theirs), of[theirs.usable] == classes)[:, :3]
    p_random = (1 + (by_chance >= observed[None, :, :3]).sum(0)) / (1 + len(by_chance))
    result = {}
    for row, c in enumerate(audited):
        others = np.delete(observed[:, :3], row, axis=0).mean(0)
        own = observed[row]
        common = [_mean(by_chance[:, row, figure]) for figure in range(3)]
        result[c] = Placement(
            float(own[0]), float(others[0]), float(own[1]), float(others[1]),
            CORNERS[int(own[3:].argmax())], float(own[2]), float(others[2]),
            common[0], common[1], common[2],
            dict(zip(_FIGURES, p[row].tolist(), strict=True)),
            dict(zip(_FIGURES, p_random[row].tolist(), strict=True)),
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
    """Border, favourite corner, alike, and each corner, of each group of bool (C, n): (C, 3 + 4).

    NaN for a group of fewer than two.
    """
    member = members.astype(np.float64)
    n = member.sum(1)
    n[n < 2] = np.nan
    in_corners = member @ corners / n[:, None]
    together = ((member @ unit) ** 2).sum(1)
    alike = (together - n) / (n * (n - 1))
    return np.column_stack([member @ border / n, in_corners.max(1), alike, in_corners])


def _mean(figures: np.ndarray) -> float | None:
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else None
