"""Fifteen common corruptions of test images, five severities each, made with Albumentations.

In the spirit of ImageNet-C and CIFAR-10-C (Hendrycks, Dietterich, arXiv 1903.12261), not their files:
numbers compare between networks measured here, not with published ones. Eleven kinds are among the
paper's fifteen; gaussian_blur and spatter are of its four extra ones; shift and rotation are not in it.
They stand in for what Albumentations 2.0.8 cannot do well on 32x32 pixels: Defocus has whole pixels as
its radius, GlassBlur leaves a sharp border, RandomSnow turns the hues round, and there is no frost. Fog
is a plasma fractal, as in the paper: RandomFog takes 17 ms an image and hardly grows thicker.

The five strengths of a kind are chosen for 32x32 pixels; those in pixels grow with the image's side.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from augcam.data.augment.pipeline import Pipeline

# isort: split
import albumentations as A
import cv2

Category = Literal["noise", "blur", "weather", "digital", "geometry"]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        category: where it belongs, beside others of its kind.
        strengths: what `make` is given at severities 1 to 5.
        make: (strength, side of the image / 32) to the transform. Its parameters are points, not
            ranges: what stays random is the noise itself, a direction, a pattern.
    """

    category: Category
    strengths: Sequence[Any]
    make: Callable[[Any, float], A.BasicTransform | A.BaseCompose]


def _elastic(alpha: float, scale: float) -> A.ElasticTransform:
    # Displacements of about alpha / (2 sqrt(pi) sigma) pixels, smooth over sigma pixels.
    return A.ElasticTransform(
        alpha=alpha * scale**2, sigma=3 * scale, border_mode=cv2.BORDER_REFLECT_101, p=1
    )


def _motion_blur(length: int, scale: float) -> A.MotionBlur:
    odd = max(3, 2 * round(length * scale / 2 - 0.5) + 1)
    return A.MotionBlur(
        blur_limit=(odd, odd),
        angle_range=(0, 360),
        direction_range=(0, 0),
        allow_shifted=False,
        p=1,
    )


def _fog(density: tuple[float, float], scale: float) -> A.Sequential:
    contrast, light = density
    return A.Sequential(
        [
            _contrast(contrast, scale),
            # The fractal: banks of fog that are lighter and hide still more.
            A.PlasmaBrightnessContrast(
                brightness_range=(light, light), contrast_range=(-0.4, -0.4), roughness=0.35, p=1
            ),
        ],
        p=1,
    )


def _contrast(factor: float, scale: float) -> A.ColorJitter:
    return A.ColorJitter(
        contrast=(factor, factor), brightness=(1, 1), saturation=(1, 1), hue=(0, 0), p=1
    )


def _spatter(cover: tuple[float, float], scale: float) -> A.Spatter:
    threshold, intensity = cover
    # Blurring noise by sigma divides its deviation by sigma: with both scaled, as much is covered.
    return A.Spatter(
        mode="mud", color=(63, 42, 20), mean=(0.65, 0.65), std=(0.3 * scale, 0.3 * scale),
        gauss_sigma=(scale, scale), cutout_threshold=(threshold, threshold),
        intensity=(intensity, intensity), p=1,
    )  # fmt: skip


def _shift(share: float, scale: float) -> A.OneOf:
    ways = [(share, 0.0), (-share, 0.0), (0.0, share), (0.0, -share)]
    return A.OneOf(
        [
            A.Affine(
                translate_percent={"x": (x, x), "y": (y, y)},
                border_mode=cv2.BORDER_REFLECT_101,
                p=1,
            )
            for x, y in ways
        ],
        p=1,
    )


def _rotation(degrees: float, scale: float) -> A.OneOf:
    return A.OneOf(
        [
            A.Rotate(limit=(angle, angle), border_mode=cv2.BORDER_REFLECT_101, p=1)
            for angle in (degrees, -degrees)
        ],
        p=1,
    )


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType({
    # standard deviation, of values in 0..1
    "gaussian_noise": Corruption("noise", (0.03, 0.06, 0.09, 0.12, 0.16),
        lambda std, scale: A.GaussNoise(std_range=(std, std), p=1)),
    # 1 / photons that make white, in linear light
    "shot_noise": Corruption("noise", (0.003, 0.008, 0.015, 0.03, 0.06),
        lambda quantum, scale: A.ShotNoise(scale_range=(quantum, quantum), p=1)),
    # share of the pixels, half of them white and half black
    "impulse_noise": Corruption("noise", (0.01, 0.03, 0.05, 0.08, 0.12),
        lambda share, scale: A.SaltAndPepper(amount=(share, share), salt_vs_pepper=(0.5, 0.5), p=1)),
    # standard deviation in pixels
    "gaussian_blur": Corruption("blur", (0.5, 0.75, 1, 1.4, 2),
        lambda sigma, scale: A.GaussianBlur(
            blur_limit=0, sigma_limit=(sigma * scale, sigma * scale), p=1)),
    # length in pixels
    "motion_blur": Corruption("blur", (3, 5, 7, 9, 11), _motion_blur),
    # largest of the zooms that are averaged
    "zoom_blur": Corruption("blur", (1.06, 1.12, 1.18, 1.24, 1.3),
        lambda zoom, scale: A.ZoomBlur(max_factor=(zoom, zoom), step_factor=(0.02, 0.02), p=1)),
    # added to values in 0..1
    "brightness": Corruption("weather", (0.06, 0.12, 0.18, 0.24, 0.3),
        lambda added, scale: A.RandomBrightnessContrast(
            brightness_limit=(added, added), contrast_limit=(0, 0), p=1)),
    # contrast that is left, and light of the fog's banks
    "fog": Corruption("weather", ((0.8, 0.15), (0.65, 0.2), (0.5, 0.25), (0.4, 0.3), (0.3, 0.35)),
        _fog),
    # level of the noise above which there is mud, and its opacity
    "spatter": Corruption("weather",
        ((0.8, 0.6), (0.75, 0.65), (0.7, 0.7), (0.67, 0.75), (0.64, 0.8)), _spatter),
    # contrast that is left
    "contrast": Corruption("digital", (0.75, 0.55, 0.4, 0.27, 0.17), _contrast),
    # side of the small image; each a whole number of pixels at 32x32, or blocks are uneven
    "pixelate": Corruption("digital", (0.75, 0.5, 0.375, 0.3125, 0.25),
        lambda size, scale: A.Downscale(
            scale_range=(size, size),
            interpolation_pair={"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_NEAREST}, p=1)),
    # JPEG's quality, 1..100
    "jpeg_compression": Corruption("digital", (60, 40, 25, 15, 10),
        lambda quality, scale: A.ImageCompression(quality_range=(quality, quality), p=1)),
    # share of the side, in one of four directions
    "shift": Corruption("geometry", (2 / 32, 4 / 32, 6 / 32, 8 / 32, 11 / 32), _shift),
    # degrees, to either side
    "rotation": Corruption("geometry", (8, 15, 23, 32, 45), _rotation),
    # displacements' scale
    "elastic_transform": Corruption("geometry", (8, 14, 20, 28, 38), _elastic),
})  # fmt: skip


def corrupt(
    images: np.ndarray, index: np.ndarray, name: str, severity: int, seed: int = 0
) -> np.ndarray:
    """Images as they are under one corruption.

    What happens to an image follows from `seed`, `name` and its `index` alone, whatever the batch.
    At each severity an image meets the same draw (the noise's pattern, the direction of a blur), so
    that severities differ in strength alone.

    Args:
        images: uint8 (N, H, W, 3).
        index: int (N,), each image's number in its set.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: 0 or above.

    Returns:
        uint8 (N, H, W, 3), new.
    """
    kind = CORRUPTIONS[name]
    transform = kind.make(kind.strengths[severity - 1], min(images.shape[1:3]) / 32)
    pipeline = Pipeline({name: transform}, seed)
    stream = zlib.crc32(name.encode())
    return np.stack(
        [pipeline(image, stream, int(number)) for image, number in zip(images, index, strict=True)]
    )
