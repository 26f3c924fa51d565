"""Albumentations, drawn from each sample's own random stream."""

import os

# Before its first import, or it phones home.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from augcam.data.augment.ops import AlternatingFlip, Cutout, PadCrop
from augcam.data.augment.policies import AugMix, AutoAugment, RandAugment, TrivialAugmentWide

__all__ = [
    "AlternatingFlip",
    "AugMix",
    "AutoAugment",
    "Cutout",
    "PadCrop",
    "RandAugment",
    "TrivialAugmentWide",
]
