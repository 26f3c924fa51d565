"""What to do about a cue: the augmentation or the crop that is aimed at it, as overrides of train.py."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from augcam.audit.interventions import Region
from augcam.audit.measure import ClassAudit
from augcam.config.compose import of_any_run

# What varies a property at random, so that it tells nothing: the operation and its settings.
_AGAINST = {
    "brightness": ("brightness_contrast", {"brightness_limit": "0.5", "p": "1"}),
    "contrast": ("brightness_contrast", {"contrast_limit": "0.5", "p": "1"}),
    "colour": ("color_jitter", {"hue": "[-0.5,0.5]", "saturation": "[0.5,1.5]", "p": "1"}),
    "sharpness": ("blur", {"blur_limit": "[3,5]", "p": "0.5"}),
    "texture": ("blur", {"blur_limit": "[3,5]", "p": "0.5"}),
}
_JPEG = "++aug.jpeg={_target_: albumentations.ImageCompression, quality_range: [10, 95], p: 1}"

# A crop takes away at most so much of a side: beyond, the object would go too.
_MOST_CROPPED = 0.25

# A run's pipeline, as its config has it; None is a step that is switched off.
Steps = Mapping[str, Mapping[str, Any] | None]


def overrides(one: ClassAudit, size: tuple[int, int], pipeline: Steps) -> list[str]:
    """What to add to the command that trained the network; none where the verdict names no cause.

    Args:
        size: (H, W) of the images in pixels.
        pipeline: the run's own.
    """
    if one.verdict not in ("shortcut", "context"):
        return []
    if one.patch is not None:
        region = one.patch.region
        if region is not None and (crop := _crop(region, size, pipeline)):
            return [crop]
        box = (region or one.patch.regions[0]).box
        side = 2 * max(box[2] - box[0], box[3] - box[1])
        largest = max(2, min(side, min(size) // 2))
        hole = f"[{max(1, largest // 2)},{largest}]"
        settings = {"num_holes_range": "[1,3]", "p": "1"}
        settings |= {"hole_height_range": hole, "hole_width_range": hole}
        return _operation("cutout", settings, pipeline)
    assert one.found is not None  # these two verdicts rest on one
    if one.found.name == "blocks":
        return [_JPEG]
    return _operation(*_AGAINST[one.found.name], pipeline)


def command(recorded: Sequence[str], added: Sequence[str]) -> str:
    """The command that trains the same network with `added`, for a shell.

    Args:
        recorded: the overrides that the run began with.
    """
    given = {_key(one) for one in added}
    given.add("name")  # the next is another one
    kept = [one for one in of_any_run(recorded) if _key(one) not in given]
    return " ".join(["python train.py", *map(shlex.quote, [*kept, *added])])


def _key(override: str) -> str:
    """What an override is about: `aug.blur` of `+aug/op@aug.blur=blur` and of `~aug.blur`."""
    return override.lstrip("+~").partition("=")[0].rpartition("@")[2]


def _crop(region: Region, size: tuple[int, int], pipeline: Steps) -> str:
    """The crop of the one side that takes the region away; empty where it would take too much.

    What an earlier audit had cropped stays away.
    """
    if region.frame:
        cut = [region.frame] * 4
    else:
        top, left, bottom, right = region.box
        depths = [bottom / size[0], 1 - left / size[1], 1 - top / size[0], right / size[1]]
        nearest = depths.index(min(depths))
        if depths[nearest] > _MOST_CROPPED:
            return ""
        cut = [0, 0, 0, 0]
        cut[nearest] = (bottom, size[1] - left, size[0] - top, right)[nearest]
    before = (pipeline.get("crop_away") or {}).get("px", 0)
    pixels = np.minimum(before, np.negative(cut)).tolist()
    arguments = f"px: {pixels}, keep_size: true, p: 1"
    return f"++aug.crop_away={{_target_: albumentations.CropAndPad, {arguments}}}"


def _operation(name: str, settings: dict[str, str], pipeline: Steps) -> list[str]:
    """The settings, for the step of the pipeline that has such, or else for one more.

    A step of this name may be another transform or switched off, and the pipeline's file may have one
    that the command has taken out: the new one has a name of its own.
    """
    names = (name, f"more_{name}")
    has = [step for step in names if settings.keys() <= (pipeline.get(step) or {}).keys()]
    step = has[0] if has else names[-1]
    added = [] if has else [f"+aug/op@aug.{step}={name}"]
    return [*added, *(f"aug.{step}.{key}={value}" for key, value in settings.items())]
