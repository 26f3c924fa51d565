"""Whether maps move with their images, for networks of which it is known."""

import albumentations as A
import numpy as np
import torch
from torch import nn

from augcam.audit.maps import evidence_maps
from augcam.audit.stability import geometric, stabilities
from augcam.audit.subject import Subject
from augcam.data.augment.ops import AlternatingFlip, Cutout, PadCrop, Rotate

SIZE = 32


class Bright(nn.Module):
    """One layer of 8x8 cells, each the mean of its pixels; the evidence is where the image is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 1, 4, stride=4, bias=False)
        nn.init.constant_(self.features.weight, 1 / 48)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = self.features(images).mean((1, 2, 3))
        return torch.stack([mean, -mean], 1)


class Dealt(nn.Module):
    """The same, with its evidence in a few cells that are drawn anew for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.features = Deal()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = self.features(images).mean((1, 2, 3))
        return torch.stack([mean, -mean], 1)


class Deal(nn.Module):
    """Ones in two of 8x8 cells, drawn from the left half's pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = torch.zeros(len(images), 1, 8, 8)
        for cell, image in zip(cells, images, strict=True):
            random = torch.Generator().manual_seed(int(image[0, :, :16].sum().item() * 1e4) % 2**31)
            cell.view(64)[torch.randperm(64, generator=random)[:2]] = 1
        return cells * self.scale


def subject_of(network: nn.Module) -> Subject:
    random = np.random.default_rng(0)
    images = random.integers(0, 20, (20, SIZE, SIZE, 3)).astype(np.uint8)
    for image in images:
        top, left = random.integers(4, 20, 2)
        image[top : top + 8, left : left + 8] = 220
    plain = np.zeros(20, int), None, ("bright", "dark"), (0.0,) * 3, (1.0,) * 3
    return Subject(network, images, *plain)


def measured(network: nn.Module) -> float:
    subject = subject_of(network)
    maps = evidence_maps(subject)
    assert maps is not None
    return stabilities(subject, maps, {"flip": A.HorizontalFlip(p=0.5)}, [0], 0)[0]["flip"].p


def test_maps_that_lie_where_the_image_is_bright_move_with_it():
    subject = subject_of(Bright())
    maps = evidence_maps(subject)
    assert maps is not None
    found = stabilities(subject, maps, {"flip": A.HorizontalFlip(p=0.5)}, [0], 0)[0]["flip"]
    assert found.cosine > 0.99
    assert found.control < 0.6
    assert found.p < 0.001
    assert found.images == 20


def test_maps_that_are_dealt_anew_do_not():
    assert measured(Dealt()) > 0.05


def test_a_class_of_few_images_is_not_judged():
    subject = subject_of(Bright())
    subject.logits[8 - 1 :] = subject.logits[8 - 1 :, ::-1]
    maps = evidence_maps(subject_of(Bright()))
    assert maps is not None
    assert stabilities(subject, maps, {"flip": A.HorizontalFlip()}, [0], 0) == {}


def test_what_moves_pixels_is_geometric_and_what_hides_or_colours_them_is_not():
    given = {
        "flip": A.HorizontalFlip(), "rotate": A.Rotate(), "cutout": A.CoarseDropout(),
        "blur": A.Blur(), "grid": A.GridDropout(),
    }  # fmt: skip
    assert list(geometric(given)) == ["flip", "rotate"]


def test_our_own_crop_flip_and_rotation_move_a_map_as_the_image():
    subject = subject_of(Bright())
    maps = evidence_maps(subject)
    assert maps is not None
    own = {
        "crop": PadCrop(),
        "flip": AlternatingFlip(),
        "rotate": Rotate(limit=(40, 50)),
        "hole": Cutout(),
    }
    found = stabilities(subject, maps, geometric(own), [0], 0)[0]
    assert list(found) == ["crop", "flip", "rotate"]
    for one in found.values():
        assert one.cosine > 0.95
        assert one.control < 0.6
        assert one.p < 0.001
