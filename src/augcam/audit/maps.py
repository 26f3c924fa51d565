"""Where the evidence lies for what the network answers: one Grad-CAM of every image under audit.

A map is a reason to ask, not an answer: it proposes regions to the interventions, which decide.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from augcam.audit.subject import Subject
from augcam.errors import UserError
from augcam.explain.cam import GradCAM, Status, page_layers

# A map of fewer cells a side cannot tell a corner from the middle, where a finer layer can.
_FINE = 7

# Networks with random weights, as many as p < 0.05 asks for, and images of each class for them.
_RANDOMISED, _THEIR_IMAGES = 20, 8


@dataclass(frozen=True)
class EvidenceMaps:
    """The maps of N images, each for the class that the network predicts.

    Attributes:
        layer: whose.
        cells: float32 (N, h, w), the positive part, of sum 1; zero where the status is not `ok`.
        status: of `augcam.explain.cam`, N words.
        size: (H, W) of the images in pixels.
    """

    layer: str
    cells: np.ndarray
    status: tuple[Status, ...]
    size: tuple[int, int]

    @property
    def usable(self) -> np.ndarray:
        """bool (N,): whether the map has positive evidence."""
        return np.array([word == "ok" for word in self.status], bool)

    def density(self, which: np.ndarray) -> np.ndarray:
        """The share of its evidence in each pixel: float32 (B, H, W), of sum 1, or 0 if not usable."""
        cells = torch.from_numpy(self.cells[which])[:, None]
        # Cells are areas, not points.
        large = F.interpolate(cells, self.size, mode="bilinear", align_corners=False)[:, 0]
        total = large.sum((1, 2), keepdim=True)
        share: np.ndarray = torch.where(total > 0, large / total, 0).numpy()
        return share

    def heat(self, which: np.ndarray) -> np.ndarray:
        """The same with each map's peak at 1, as overlays show it: float32 (B, H, W) in 0..1."""
        density = self.density(which)
        peak = density.max((1, 2), keepdims=True)
        heat: np.ndarray = np.divide(density, peak, out=np.zeros_like(density), where=peak > 0)
        return heat

    def mass(self, which: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """The share of each image's evidence that lies in its mask, bool (B or 1, H, W): (B,)."""
        parts = [
            (self.density(which[i : i + 100]) * (masks if len(masks) == 1 else masks[i : i + 100]))
            .sum((1, 2))
            for i in range(0, len(which), 100)
        ]  # fmt: skip
        return np.concatenate([np.zeros(0, np.float32), *parts])


def evidence_maps(subject: Subject) -> EvidenceMaps | None:
    """The maps of all images; None for a network that has no layer with a map."""
    layer = _layer(subject)
    if layer is None:
        return None
    return maps_of(subject, subject.images, subject.predicted, layer)


def maps_of(subject: Subject, images: np.ndarray, labels: np.ndarray, layer: str) -> EvidenceMaps:
    """The maps at one layer of images, uint8 (B, H, W, 3), each for its class in int (B,)."""
    cells: list[np.ndarray] = []
    status: list[Status] = []
    with GradCAM(subject.network, layers=(layer,)) as cam:
        for start in range(0, len(images), subject.batch):
            part = images[start : start + subject.batch]
            targets = _targets(labels[start : start + subject.batch])
            found = cam(subject.normalized(part), targets)[layer]
            positive = found.raw.relu().float().cpu().numpy()
            positive[np.array([word != "ok" for word in found.status])] = 0
            total = positive.sum((1, 2), keepdims=True)
            cells.append(np.divide(positive, total, out=np.zeros_like(positive), where=total > 0))
            status += found.status
            subject.count(len(part))
    return EvidenceMaps(layer, np.concatenate(cells), tuple(status), subject.size)


def randomised_maps(
    subject: Subject, layer: str, audited: Sequence[int], seed: int
) -> list[tuple[EvidenceMaps, np.ndarray]]:
    """Maps of some images of each class by networks that know nothing, and their classes, int (n,).

    What they have in common with the network's maps - the edge, where convolutions are padded, the
    middle, where most windows overlap - is the architecture's and the images' doing (Adebayo, Gilmer,
    Muelly, Goodfellow, Hardt, Kim, "Sanity checks for saliency maps", NeurIPS 2018).
    """
    random = np.random.default_rng([seed, 6])
    own = [random.permutation(np.flatnonzero(subject.predicted == c)) for c in audited]
    which = np.concatenate([numbers[:_THEIR_IMAGES] for numbers in own])
    images, labels = subject.images[which], subject.predicted[which]
    # Statistics of batch norms need no more.
    some = subject.normalized(images[random.permutation(len(images))[: subject.batch]])
    found = []
    for _ in range(_RANDOMISED):
        with randomised(subject.network, some, int(random.integers(2**31))):
            found.append((maps_of(subject, images, labels, layer), labels))
    return found


@contextmanager
def randomised(network: nn.Module, inputs: torch.Tensor, seed: int) -> Iterator[None]:
    """Deal the weights of each tensor anew within it, for as long as the context lasts.

    Args:
        network: in evaluation mode.
        inputs: (B, 3, H, W), by which batch norms' statistics are made to fit the new weights.
    """
    kept = copy.deepcopy(network.state_dict())
    generator = torch.Generator().manual_seed(seed)
    norms = [
        one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats
    ]
    momenta = [one.momentum for one in norms]
    try:
        with torch.no_grad():
            for weights in network.parameters():
                if weights.ndim > 1:
                    order = torch.randperm(weights.numel(), generator=generator)
                    weights.copy_(weights.flatten()[order.to(weights.device)].view_as(weights))
            for one in norms:
                one.reset_running_stats()
                one.momentum = None  # the mean of all that it sees
                one.training = True  # a frozen one does not heed `train`
            network(inputs)
        for one in norms:
            one.training = False
        yield
    finally:
        network.load_state_dict(kept)
        for one, momentum in zip(norms, momenta, strict=True):
            one.momentum = momentum
            one.training = False


def _targets(predicted: np.ndarray) -> Sequence[int]:
    return [int(label) for label in predicted]


def _layer(subject: Subject) -> str | None:
    """The deepest layer whose map is fine enough; the one that suits the architecture, if none is."""
    try:
        names = page_layers(subject.network, subject.size)
    except UserError:
        return None
    with GradCAM(subject.network, layers=names) as cam:
        maps = cam(subject.normalized(subject.images[:1]))
    fine = [name for name in names if min(maps[name].raw.shape[1:]) >= _FINE]
    return (fine or list(names))[-1]
