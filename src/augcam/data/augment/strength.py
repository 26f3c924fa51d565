"""One knob for a whole pipeline: `aug_strength` scales ranges and probabilities together.

1 is the pipeline as it is written, 0 leaves every image as it is.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from augcam.data.augment import ops, policies

# isort: split
import albumentations as A


@dataclass(frozen=True)
class Scale:
    """How an argument is weakened: `neutral + strength * (value - neutral)`.

    Attributes:
        neutral: the value at which the transform does nothing by this argument.
        whole: rounded to a whole number, away from neutral, and at least one step from it.
        width: whether a number by itself is how far a range goes from neutral, so that 0 does nothing:
            ColorJitter's 0.2 is [0.8, 1.2].
    """

    neutral: float = 0
    whole: bool = False
    width: bool = False


_SHARE, _PIXELS, _FACTOR, _AROUND = Scale(), Scale(whole=True), Scale(1), Scale(1, width=True)

# The arguments that hold a transform's ranges. With none only its probability is scaled.
TABLE: dict[type, dict[str, Scale]] = {
    A.HorizontalFlip: {},
    A.VerticalFlip: {},
    A.Transpose: {},
    A.RandomRotate90: {},
    A.D4: {},
    ops.PadCrop: {"padding": _PIXELS},
    A.Rotate: {"limit": _SHARE},
    A.Affine: {
        "translate_percent": _SHARE, "translate_px": _PIXELS, "scale": _FACTOR, "rotate": _SHARE,
        "shear": _SHARE,
    },
    A.OpticalDistortion: {"distort_limit": _SHARE},
    ops.Cutout: {"size": _PIXELS},
    A.CoarseDropout: {"hole_height_range": _PIXELS, "hole_width_range": _PIXELS},
    A.GridDropout: {"ratio": _SHARE},
    A.Erasing: {"scale": _SHARE},
    A.RandomBrightnessContrast: {"brightness_limit": _SHARE, "contrast_limit": _SHARE},
    A.HueSaturationValue: {
        "hue_shift_limit": _SHARE, "sat_shift_limit": _SHARE, "val_shift_limit": _SHARE,
    },
    A.ColorJitter: {
        "brightness": _AROUND, "contrast": _AROUND, "saturation": _AROUND, "hue": _SHARE,
    },
    A.Posterize: {"num_bits": Scale(8, whole=True)},
    A.Solarize: {"threshold_range": _FACTOR},
    A.Sharpen: {"alpha": _SHARE},
    A.GaussNoise: {"std_range": _SHARE},
    A.Blur: {},
    A.CLAHE: {},
    A.AutoContrast: {},
    A.Equalize: {},
    A.InvertImg: {},
    A.ToGray: {},
    policies.RandAugment: {"magnitude": _PIXELS},
    policies.TrivialAugmentWide: {},
    policies.AutoAugment: {},
    policies.AugMix: {"severity": _PIXELS},
    A.OneOf: {},
    A.SomeOf: {},
    A.RandomOrder: {},
    A.Sequential: {},
}  # fmt: skip


def weakened(
    kind: type, arguments: Mapping[str, Any], strength: float, part: bool = False
) -> dict[str, Any]:
    """A transform's arguments at a strength.

    Args:
        kind: its class.
        arguments: as written; those that are left out have their defaults.
        strength: 0 to 1.
        part: whether it stands in a composition such as OneOf: there `p` is left, because that of the
            composition is scaled.

    Returns:
        The arguments to build it with.

    Raises:
        ValueError: nothing says what its strength is.
    """
    defaults = {n: p.default for n, p in inspect.signature(kind).parameters.items()}
    if kind not in TABLE or "p" not in defaults:
        reason = (
            "it has no probability"
            if "p" not in defaults
            else "which of its arguments is its strength is not known"
        )
        raise ValueError(f"{kind.__name__} cannot be scaled: {reason}")
    written = {**defaults, **arguments}
    scaled = dict(arguments)
    if not part:
        scaled["p"] = _toward(written["p"], _SHARE, strength)
    if strength > 0:  # at 0 nothing is applied, and not every range can be empty
        for name, scale in TABLE[kind].items():
            if written[name] is not None:
                alone = scale.width and not isinstance(written[name], Sequence)
                scaled[name] = _toward(written[name], _SHARE if alone else scale, strength)
    return scaled


def _toward(value: Any, scale: Scale, strength: float) -> Any:
    """The value with every number in it scaled; what is none is left for the transform to refuse."""
    if isinstance(value, Mapping):  # Affine's {x: ..., y: ...}
        return {axis: _toward(one, scale, strength) for axis, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):  # Posterize's has lists in it
        return [_toward(one, scale, strength) for one in value]
    return _number(value, scale, strength) if isinstance(value, int | float) else value


def _number(value: float, scale: Scale, strength: float) -> float:
    away = strength * (value - scale.neutral)
    if scale.whole and isinstance(value, int):  # of CoarseDropout's ranges only pixels are whole
        away = math.copysign(math.ceil(abs(away) - 1e-9), away)
        return int(scale.neutral + away)
    return scale.neutral + away


def table() -> list[tuple[str, str]]:
    """What is scaled for each transform, in words: (its name, the arguments)."""
    rows = []
    for kind, scales in TABLE.items():
        words = ["`p`"]
        for name, scale in scales.items():
            target = f" (to {scale.neutral:g})" if scale.neutral else ""
            words.append(f"`{name}`{target}")
        rows.append((kind.__name__, ", ".join(words)))
    return rows
