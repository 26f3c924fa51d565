"""MixUp and CutMix: pixels and labels in the same proportion, drawn from (seed, epoch, batch) alone."""

import numpy as np
import pytest
import torch

from augcam.data.augment.mix import build

BATCH, CLASSES = 16, 5


@pytest.fixture
def batch():
    """Images that each are one number all over, so that shares can be read off the pixels."""
    values = torch.arange(BATCH, dtype=torch.float32)
    labels = torch.arange(BATCH) % CLASSES
    images = values.view(-1, 1, 1, 1).expand(-1, 3, 32, 32).clone()
    return images, torch.nn.functional.one_hot(labels, CLASSES).float()


def expected_shares(images, labels, values):
    """Of each plain image the share of its own class, from its mean value, and of its neighbour's."""
    own, other = values, values.roll(1)
    share = (images.mean(dim=(1, 2, 3)) - other) / (own - other)
    shares = torch.zeros(BATCH, CLASSES)
    rows = torch.arange(BATCH)
    shares[rows, labels] += share
    shares[rows, labels.roll(1)] += 1 - share
    return shares


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_shared_as_pixels_are(kind, batch):
    images, whole = batch
    labels = whole.argmax(dim=1)
    mix = build(1.0, None, seed=3) if kind == "mixup" else build(None, 1.0, seed=3)
    for number in range(5):
        mixed, shares = mix(images, whole, 0, number)
        assert torch.allclose(shares.sum(dim=1), torch.ones(BATCH))
        values = torch.arange(BATCH, dtype=torch.float32)
        assert torch.allclose(shares, expected_shares(mixed, labels, values), atol=1e-4)
        if kind == "cutmix":  # no pixel is a blend
            assert set(np.unique(mixed.numpy())) <= set(range(BATCH))


def test_the_batch_given_is_left_alone(batch):
    images, whole = batch
    before = images.clone()
    build(1.0, None, seed=3)(images, whole, 0, 0)
    assert torch.equal(images, before)


def test_a_batch_depends_on_seed_epoch_and_number_alone(batch):
    images, whole = batch

    def mixed(seed, epoch, number):
        return build(1.0, 1.0, seed)(images, whole, epoch, number)

    torch.manual_seed(0)
    first = mixed(1, 2, 3)
    torch.rand(100)  # torch's own stream is elsewhere by now
    again = mixed(1, 2, 3)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(first[0], mixed(*other)[0])


def test_torchs_own_stream_goes_on_as_if_nothing_had_been_drawn(batch):
    images, whole = batch
    mix = build(1.0, 1.0, seed=1)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    mix(images, whole, 0, 0)
    assert torch.equal(torch.rand(3), expected)


def test_p_is_the_share_of_batches_that_are_mixed(batch):
    images, whole = batch
    mix = build(None, 1.0, seed=1, p=0.5)
    count = 600
    untouched = 0
    for number in range(count):
        mixed, shares = mix(images, whole, 0, number)
        if mixed is images:
            untouched += 1
            assert shares is whole
    # Five standard errors of a share of a half, and the few boxes without an area.
    assert abs(untouched / count - 0.5) < 5 * np.sqrt(0.25 / count)


def test_the_weight_of_mixup_is_a_beta_draw(batch):
    images, whole = batch
    mix = build(0.4, None, seed=1)
    own = torch.stack([mix(images, whole, 0, n)[1][1, 1] for n in range(1500)]).numpy()
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert own.mean() == pytest.approx(0.5, abs=0.05)
    assert own.var() == pytest.approx(1 / (4 * 1.8), rel=0.1)


def test_of_two_kinds_each_gets_half_of_the_batches(batch):
    images, whole = batch
    mix = build(1.0, 1.0, seed=1)
    blended = [
        bool((mix(images, whole, 0, n)[0] % 1 > 0).any()) for n in range(400)
    ]  # CutMix makes no new values
    assert np.mean(blended) == pytest.approx(0.5, abs=0.13)


def test_nothing_to_mix_is_none():
    assert build(None, None, seed=1) is None
    assert build(1.0, None, seed=1, p=0.0) is None


def test_a_single_image_is_mixed_with_itself():
    images, shares = torch.ones(1, 3, 8, 8), torch.tensor([[0.0, 0, 1, 0, 0]])
    mixed, shares = build(1.0, None, seed=1)(images, shares, 0, 0)
    assert torch.allclose(mixed, images)
    assert shares.tolist() == [[0, 0, 1, 0, 0]]
