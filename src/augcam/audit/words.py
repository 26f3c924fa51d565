"""The verdict on a class as one sentence with its figures."""

from augcam.audit.interventions import Region
from augcam.audit.measure import ClassAudit
from augcam.viz.words import p_value


def sentence(one: ClassAudit, size: tuple[int, int]) -> str:
    """What was found of a class, and how often it makes the network say so; plain text.

    Args:
        size: (H, W) of the images in pixels.
    """
    words = f"{one.name}: {one.verdict.replace('_', ' ')}"
    if one.verdict not in ("shortcut", "context"):
        return f"{words} ({one.reason})"
    cause = one.patch or one.found
    assert cause is not None  # these two verdicts rest on one
    figures = (
        f'makes the network say "{one.name}" in {cause.effect.follow_rate:.0%}; its control does in '
        f"{cause.effect.control_rate:.0%} (adjusted p {p_value(one.p)})"
    )
    if one.patch is None:
        assert one.found is not None  # as above
        return f"{words}: {one.found.name}. Given to images of other classes it {figures}"
    if one.patch.region is None:
        part = (
            f"a part of {one.patch.area:.1%} of the image, wherever it is, found in "
            f"{one.patch.share:.0%} of the images tried"
        )
        return f"{words}: {part}. Pasted into images of other classes it {figures}"
    lies = ""
    if one.evidence is not None:
        lies = f", {one.evidence:.0%} of the evidence on {one.patch.area:.1%} of the image"
    found = f", found in {one.patch.share:.0%} of the images tried"
    where = f"{place(one.patch.region, size)}{lies}{found}"
    return f"{words}: {where}. Pasted into images of other classes it {figures}"


def place(region: Region, size: tuple[int, int]) -> str:
    """`4x4 pixels in the upper left corner (rows 1 to 4, columns 1 to 4)`, counted from 0."""
    top, left, bottom, right = region.box
    height, width = bottom - top, right - left
    exact = f"rows {top} to {bottom - 1}, columns {left} to {right - 1}"
    if region.frame:
        return f"the border, {region.frame} pixels wide"
    vertical = _third((top + bottom) / 2, size[0], ("upper", "", "lower"))
    horizontal = _third((left + right) / 2, size[1], ("left", "", "right"))
    if vertical and horizontal:
        where = f"the {vertical} {horizontal} corner"
    elif vertical or horizontal:
        where = f"the middle of the {vertical or horizontal} side"
    else:
        where = "the middle"
    return f"{height}x{width} pixels in {where} ({exact})"


def _third(centre: float, length: int, names: tuple[str, str, str]) -> str:
    return names[min(2, int(3 * centre / length))]
