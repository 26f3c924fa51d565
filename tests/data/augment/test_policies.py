"""Policies: the operations are torchvision's on PIL images, the draws are the sample's own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from augcam.data.augment.policies import (
    AugMix,
    AutoAugment,
    RandAugment,
    TrivialAugmentWide,
    apply_operation,
)

RANDOM = np.random.default_rng(5)


def photo(seed: int) -> np.ndarray:
    """A smooth colour picture, uint8 (32, 32, 3), that does not fill the range of values."""
    random = np.random.default_rng(seed)
    small = random.integers(20, 220, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC))


def torchvisions(image: np.ndarray, name: str, magnitude: float) -> np.ndarray:
    policy = v2.RandAugment()
    applied = policy._apply_image_or_video_transform(
        Image.fromarray(image), name, magnitude, policy.interpolation, policy._fill
    )
    return np.asarray(applied)


CASES = sorted(
    {
        (name, sign * float(value))
        for policy in (v2.RandAugment, v2.TrivialAugmentWide, v2.AutoAugment)
        for name, (values, signed) in policy._AUGMENTATION_SPACE.items()
        for value in ([0.0] if values(10, 32, 32) is None else values(10, 32, 32))
        for sign in ((1, -1) if signed else (1,))
    }
)
GEOMETRIC = ("ShearX", "ShearY", "Rotate")


@pytest.mark.parametrize(("name", "magnitude"), CASES)
def test_operations_are_torchvisions(name, magnitude):
    for seed in range(3):
        image = photo(seed)
        ours = apply_operation(image.copy(), name, magnitude).astype(int)
        if name in GEOMETRIC:
            # A place on the edge of two pixels may go to either: one of two neighbouring magnitudes.
            near = [
                torchvisions(image, name, magnitude + e).astype(int) for e in (-0.003, 0, 0.003)
            ]
            apart = np.min([np.abs(ours - other).max(axis=2) for other in near], axis=0)
            assert (apart > 0).mean() < 0.01
            continue
        theirs = torchvisions(image, name, magnitude).astype(int)
        apart = np.abs(ours - theirs).max(axis=2)
        if name == "Sharpness":
            assert apart.max() <= 2  # the smooth image is rounded otherwise, and the rest follows
        else:
            assert apart.max() == 0


@pytest.mark.parametrize("flat", [0, 128, 255])
@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Contrast"])
def test_a_plain_image_stays_plain(name, flat):
    image = np.full((32, 32, 3), flat, np.uint8)
    assert np.array_equal(apply_operation(image, name, 0.5), torchvisions(image, name, 0.5))


def draws(policy, count: int) -> list[list[tuple[str, float]]]:
    return [policy.draw(32, 32) for _ in range(count)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (RandAugment(num_ops=2, magnitude=9), v2.RandAugment(num_ops=2, magnitude=9)),
        (TrivialAugmentWide(), v2.TrivialAugmentWide()),
        (AutoAugment(), v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    ],
)
def test_a_policy_draws_as_often_as_torchvisions(ours, theirs, monkeypatch):
    count = 4000
    seen = []

    def noted(image, name, magnitude, **_rest):
        seen.append((name, round(magnitude, 4)))
        return image

    monkeypatch.setattr(theirs, "_apply_image_or_video_transform", noted)
    torch.manual_seed(0)
    image = Image.fromarray(photo(0))
    for _ in range(count):
        theirs(image)
    ours.set_random_seed(0)
    mine = [(n, round(m, 4)) for choices in draws(ours, count) for n, m in choices]
    shares = {
        choice: (mine.count(choice) / count, seen.count(choice) / count)
        for choice in {*mine, *seen}
    }
    # Five standard errors of a difference of two shares.
    off = {
        choice: pair
        for choice, pair in shares.items()
        if abs(pair[0] - pair[1]) > 5 * np.sqrt(2 * max(pair) / count) + 1e-9
    }
    assert not off
    # An image gets at most two operations, so the two sums differ with at most this deviation.
    assert abs(len(mine) - len(seen)) <= 5 * np.sqrt(2 * count)


def test_augmix_blends_as_it_says():
    policy = AugMix()
    image = photo(1)
    chains = [[("Posterize", 3.0)], [("Solarize", 0.2), ("AutoContrast", 0.0)]]
    result = policy.apply(image, kept=0.25, weights=[0.5, 0.25], chains=chains)
    first = apply_operation(image, "Posterize", 3.0).astype(np.float64)
    second = apply_operation(image, "Solarize", 0.2)
    second = apply_operation(second, "AutoContrast", 0.0).astype(np.float64)
    expected = 0.25 * image + 0.5 * first + 0.25 * second
    assert np.abs(result - expected).max() <= 1


def test_augmix_weights_sum_to_one():
    policy = AugMix(mixture_width=4, alpha=0.5)
    for _ in range(50):
        drawn = policy.get_params_dependent_on_data({"shape": (32, 32, 3)}, {})
        assert drawn["kept"] + sum(drawn["weights"]) == pytest.approx(1)
        assert all(1 <= len(chain) <= 3 for chain in drawn["chains"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandAugment(magnitude=31), "0 to 30"),
        (lambda: RandAugment(num_ops=0), "at least 1"),
        (lambda: TrivialAugmentWide(num_magnitude_bins=1), "at least 2"),
        (lambda: AutoAugment(policy="cifar"), "cifar10"),
        (lambda: AugMix(severity=11), "1 to 10"),
    ],
)
def test_what_is_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
