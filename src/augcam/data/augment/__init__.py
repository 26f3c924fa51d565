"""Albumentations, drawn from each sample's own random stream."""

import os

# Before its first import, or it phones home.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from augcam.data.augment.ops import AlternatingFlip, Cutout, PadCrop

__all__ = ["AlternatingFlip", "Cutout", "PadCrop"]
