"""The maps' mass, their places and their clusters, from maps that are written down."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from augcam.audit.clusters import clusters
from augcam.audit.interventions import Region
from augcam.audit.maps import EvidenceMaps, evidence_maps, randomised, randomised_maps
from augcam.audit.places import border_region, placements
from augcam.audit.subject import Subject
from augcam.audit.verdict import apart
from augcam.explain.cam import Status
from augcam.models.parts import freeze
from augcam.models.resnet import resnet

SIZE = (32, 32)


def maps_at(places: list[tuple[int, int] | None]) -> EvidenceMaps:
    """Maps of 8x8 cells, a single one of which has evidence; None for a map without any."""
    cells = np.zeros((len(places), 8, 8), np.float32)
    for one, place in zip(cells, places, strict=True):
        if place is not None:
            one[place] = 1
    status: tuple[Status, ...] = tuple(
        "no_positive_evidence" if place is None else "ok" for place in places
    )
    return EvidenceMaps("layer3", cells, status, SIZE)


def anywhere(count: int, seed: int = 0) -> list[tuple[int, int] | None]:
    """Cells in the middle, drawn at random."""
    return [tuple(place) for place in np.random.default_rng(seed).integers(2, 6, (count, 2))]


# Eight maps of each of three classes by each of twenty networks that know nothing.
FEW = np.repeat([0, 1, 2], 8)
UNTRAINED = [(maps_at(anywhere(24, seed)), FEW) for seed in range(20)]


def test_a_map_is_a_density_and_a_mass_its_part():
    maps = maps_at([(0, 0), (7, 7), None])
    which = np.arange(3)
    density = maps.density(which)
    assert density.sum((1, 2)) == pytest.approx([1, 1, 0], abs=1e-6)
    assert density[0] == pytest.approx(density[1][::-1, ::-1], abs=1e-6)
    assert maps.usable.tolist() == [True, True, False]
    assert maps.heat(which).max((1, 2)).tolist() == [1, 1, 0]
    lower = np.zeros((1, *SIZE), bool)
    lower[:, 16:] = True
    assert maps.mass(which, lower) == pytest.approx([0, 1, 0], abs=1e-6)


def test_the_map_lies_where_the_network_takes_its_evidence():
    class Corner(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(3, 1, 4, stride=4, bias=False)
            nn.init.constant_(self.features.weight, 1 / 48)

        def forward(self, images):
            mean = self.features(images).mean((1, 2, 3))
            return torch.stack([mean, -mean], 1)

    images = np.zeros((3, 32, 32, 3), np.uint8)
    images[0, :4, -4:] = 255
    images[1, -4:, :4] = 255
    subject = Subject(Corner(), images, np.zeros(3, int), None, ("a", "b"), (0,) * 3, (1,) * 3)
    maps = evidence_maps(subject)
    assert maps is not None
    assert (maps.layer, maps.cells.shape) == ("features", (3, 8, 8))
    assert [np.unravel_index(one.argmax(), one.shape) for one in maps.cells[:2]] == [(0, 7), (7, 0)]
    assert maps.status == ("ok", "ok", "constant")
    assert subject.asked == 6


def test_a_class_whose_maps_lie_in_a_corner_is_apart_and_no_other_is():
    places = [(0, 7)] * 30 + anywhere(60)
    labels = np.repeat([0, 1, 2], 30)
    found = placements(maps_at(places), labels, [0, 1, 2], 0, UNTRAINED)
    assert found[0].which == "upper right"
    assert found[0].corner > 0.9 > 0.1 > found[0].corner_others
    assert found[0].alike == pytest.approx(1)
    assert "upper right corner" in apart(found[0])
    assert [apart(found[c]) for c in (1, 2)] == ["", ""]


def test_maps_that_do_not_depend_on_the_class_set_none_apart():
    corners = [(0, 0), (0, 7), (7, 0), (7, 7)]
    places = [corners[i] for i in np.random.default_rng(1).integers(0, 4, 90)]
    found = placements(maps_at(places), np.repeat([0, 1, 2], 30), [0, 1, 2], 0, UNTRAINED)
    assert [apart(one) for one in found.values()] == [""] * 3
    assert all(p > 0.05 for one in found.values() for p in one.p.values())


def test_what_networks_that_know_nothing_do_as_well_sets_no_class_apart():
    places = [(0, 7)] * 30 + anywhere(60)
    labels = np.repeat([0, 1, 2], 30)
    # On images of the class itself: what networks do with those of other classes says nothing.
    of_it = (maps_at([(7, 0)] * 8 + anywhere(16)), FEW)
    of_another = (maps_at(anywhere(8) + [(7, 0)] * 8 + anywhere(8)), FEW)
    found = placements(maps_at(places), labels, [0, 1, 2], 0, [of_it, *UNTRAINED[1:]])[0]
    assert found.p_random["corner"] == pytest.approx(2 / 21)
    assert apart(found) == ""
    assert found.corner_random == pytest.approx(1 / 20, abs=0.01)
    found = placements(maps_at(places), labels, [0, 1, 2], 0, [of_another, *UNTRAINED[1:]])[0]
    assert found.p_random["corner"] == pytest.approx(1 / 21)
    assert "upper right corner" in apart(found)
    # One without maps has no evidence anywhere.
    dead = (maps_at([None] * 24), FEW)
    found = placements(maps_at(places), labels, [0, 1, 2], 0, [dead] * 20)[0]
    assert found.p_random["corner"] == pytest.approx(1 / 21)
    assert found.corner_random is None


def test_among_many_classes_one_can_still_be_apart():
    places = [(0, 7)] * 20 + anywhere(600)
    labels = np.repeat(np.arange(31), 20)
    random = [(maps_at(anywhere(62, seed)), np.repeat(np.arange(31), 2)) for seed in range(20)]
    found = placements(maps_at(places), labels, list(range(31)), 0, random)
    assert [c for c in found if apart(found[c])] == [0]


def test_randomised_weights_are_the_same_numbers_dealt_anew_and_end_with_the_context():
    torch.manual_seed(0)
    network = resnet(10, width=8, blocks=(1, 1, 1, 1)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = torch.randn(16, 3, 32, 32)
    answers = network(inputs)
    with randomised(network, inputs, seed=1):
        assert not network.training
        assert not torch.allclose(network(inputs), answers)
        for name, value in network.named_parameters():
            if value.ndim > 1:
                assert not torch.equal(value, before[name])
                assert torch.equal(value.flatten().sort()[0], before[name].flatten().sort()[0])
    assert_as_before(network, before)
    assert torch.equal(network(inputs), answers)
    # Whatever happens meanwhile.
    with pytest.raises(RuntimeError), randomised(network, torch.randn(16, 4, 32, 32), seed=1):
        pass
    assert_as_before(network, before)


def test_a_frozen_network_is_randomised_as_any_other():
    torch.manual_seed(0)
    network = resnet(10, width=8, blocks=(1, 1, 1, 1)).eval()
    frozen = copy.deepcopy(network)
    freeze(frozen, 2, "fc")
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    inputs = torch.randn(16, 3, 32, 32) + 3
    with randomised(network, inputs, seed=1), randomised(frozen, inputs, seed=1):
        assert frozen.get_submodule("bn1").running_mean.abs().min() > 0
        assert torch.equal(frozen(inputs), network(inputs))
        assert not any(module.training for module in frozen.modules())
    assert_as_before(frozen, before)


def assert_as_before(network, before):
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(module.training for module in network.modules())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {module.momentum for module in norms} == {0.1}


def test_the_maps_of_randomised_networks_are_of_the_same_images_and_layer():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    network = resnet(2, width=8, blocks=(1, 1, 1, 1)).eval()
    subject = Subject(network, images, np.arange(20) % 2, None, ("a", "b"), (0.5,) * 3, (0.3,) * 3)
    both = sorted(set(subject.predicted.tolist()))
    one, two = (randomised_maps(subject, "layer3", both, seed=3) for _ in range(2))
    count = sum(min(8, int((subject.predicted == c).sum())) for c in both)
    assert len(one) == 20
    assert {(maps.layer, maps.cells.shape) for maps, _ in one} == {("layer3", (count, 8, 8))}
    assert all(len(labels) == count for _, labels in one)
    assert not np.array_equal(one[0][0].cells, one[1][0].cells)
    assert all(np.array_equal(a.cells, b.cells) for (a, _), (b, _) in zip(one, two, strict=True))


def test_two_ways_of_looking_are_two_clusters_with_their_share_and_accuracy():
    random = np.random.default_rng(2)
    cells = np.zeros((60, 8, 8), np.float32)
    for i, one in enumerate(cells):
        where = (slice(0, 2), slice(0, 2)) if i < 20 else (slice(4, 7), slice(4, 7))
        one[where] = random.uniform(0.5, 1, one[where].shape)
        one /= one.sum()
    maps = EvidenceMaps("layer3", cells, ("ok",) * 60, SIZE)
    right = np.arange(60) >= 10
    large, small = clusters(maps, np.arange(60), right)
    assert set(small.members.tolist()) == set(range(20))
    assert (large.share, small.share) == pytest.approx((2 / 3, 1 / 3))
    assert (large.accuracy, small.accuracy) == (1, 0.5)
    top, left, bottom, right_end = small.region.box
    assert (top, left) == (0, 0)
    assert bottom <= 10
    assert right_end <= 10


def test_maps_without_evidence_and_few_maps_make_no_clusters():
    assert clusters(maps_at([None] * 60), np.arange(60), np.ones(60, bool)) == []
    assert clusters(maps_at(anywhere(10)), np.arange(10), np.ones(10, bool)) == []


def test_the_border_is_an_eighth_wide():
    mask = border_region(SIZE).mask(SIZE)
    assert mask.sum() == 32 * 32 - 24 * 24
    assert Region((0, 0, 32, 32), frame=4).mask(SIZE).tolist() == mask.tolist()
