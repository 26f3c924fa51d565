"""The generated data set: deterministic, balanced, its masks true, and its shortcut a trap."""

import hashlib

import numpy as np
import pytest

from augcam.data.datasets import shapes
from augcam.data.datasets.shapes import Shapes
from augcam.errors import UserError


@pytest.fixture(scope="module")
def drawn():
    return shapes.draw("train", seed=3, size=300)


def test_shapes_and_types(drawn):
    images, labels, masks = drawn
    assert (images.shape, images.dtype) == ((300, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((300,), np.int64)
    assert (masks.shape, masks.dtype) == ((300, 32, 32), bool)
    assert len(shapes.CLASSES) == len(set(shapes.CLASSES)) == 10


def test_the_same_seed_draws_the_same_bits(drawn):
    again = shapes.draw("train", seed=3, size=300)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_longer_set_begins_with_the_shorter(drawn):
    shorter = shapes.draw("train", seed=3, size=37)
    assert all(np.array_equal(a[:37], b) for a, b in zip(drawn, shorter, strict=True))


def test_other_seeds_and_splits_are_other_images(drawn):
    def digests(images):
        return {hashlib.sha1(image.tobytes()).digest() for image in images}

    mine = digests(drawn[0])
    assert len(mine) == 300
    assert not mine & digests(shapes.draw("test", seed=3, size=300)[0])
    assert not mine & digests(shapes.draw("train", seed=4, size=300)[0])


def test_classes_are_balanced(drawn):
    assert np.array_equal(np.bincount(drawn[1]), [30] * 10)
    assert np.bincount(shapes.draw("test", seed=0, size=25)[1], minlength=10).max() == 3


def test_the_mask_is_one_object_that_stands_out(drawn):
    images, labels, masks = drawn
    areas = masks.sum(axis=(1, 2))
    # A disc of 12 to 22 pixels covers 113 to 380; every outline lies within about its square.
    assert areas.min() > 20
    assert areas.max() < 22 * 22
    discs = areas[labels == shapes.CLASSES.index("circle")]
    assert 100 < discs.min() < discs.max() < 390
    for mask in masks:
        rows, columns = np.nonzero(mask)
        assert 10 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 23
    # The object is away from the border, so that no shape is cut off.
    assert not masks[:, [0, -1]].any()
    assert not masks[:, :, [0, -1]].any()
    for image, mask in zip(images.astype(float), masks, strict=True):
        inside, outside = image[mask].mean(axis=0), image[~mask].mean(axis=0)
        assert np.linalg.norm(inside - outside) > 50


def test_the_rings_mask_has_its_hole(drawn):
    _, labels, masks = drawn
    ring = masks[labels == shapes.CLASSES.index("ring")][0]
    rows, columns = np.nonzero(ring)
    assert not ring[round(rows.mean()), round(columns.mean())]


def test_colours_say_nothing_about_the_class(drawn):
    """Mean colours per class differ by no more than chance: 30 images, sd about 45 per channel."""
    images, labels, _ = drawn
    means = images.mean(axis=(1, 2))
    spread = means.std(axis=0) / np.sqrt(30)
    per_class = np.stack([means[labels == label].mean(axis=0) for label in range(10)])
    assert np.all(np.abs(per_class - means.mean(axis=0)) < 4 * spread)


def test_the_shortcut_gives_the_class_away_in_training_alone():
    top, left, bottom, right = shapes.tag_box()
    colours = shapes.tag_colours()
    assert len({tuple(colour) for colour in colours}) == 10

    def tags(split, share):
        images, labels, masks = shapes.draw(split, seed=0, size=400, shortcut=share)
        tag = images[:, top:bottom, left:right]
        tagged = (tag == tag[:, :1, :1]).all(axis=(1, 2, 3))
        assert not masks[tagged, top:bottom, left:right].any()
        matches = (tag[:, 0, 0, None] == colours).all(axis=2)
        assert matches[tagged].any(axis=1).all()
        return tagged.mean(), (matches.argmax(axis=1) == labels)[tagged].mean()

    share, right_in_training = tags("train", 0.9)
    assert abs(share - 0.9) < 5 * 0.015  # sqrt(.9 x .1 / 400) = .015
    assert right_in_training == 1
    share, right_in_test = tags("test", 0.9)
    assert abs(share - 0.9) < 5 * 0.015
    assert right_in_test < 0.1 + 5 * 0.0158  # chance: .1, sqrt(.1 x .9 / 360) = .0158
    plain = shapes.draw("train", seed=0, size=50)
    tagged = shapes.draw("train", seed=0, size=50, shortcut=1.0)
    outside = np.ones((32, 32), bool)
    outside[top:bottom, left:right] = False
    assert np.array_equal(plain[0][:, outside], tagged[0][:, outside])


def test_the_source_states_mean_and_std_of_its_training_images():
    source = Shapes(seed=1, train_size=200, test_size=30)
    source.prepare()
    train, test = source.train(), source.test()
    assert (len(train), len(test), len(source.classes)) == (200, 30, 10)
    scaled = train.images[:].reshape(-1, 3) / 255
    assert np.allclose(source.mean, scaled.mean(axis=0))
    assert np.allclose(source.std, scaled.std(axis=0))


def test_a_share_beyond_one_is_refused():
    with pytest.raises(UserError, match=r"shortcut=1\.5"):
        Shapes(shortcut=1.5)


def test_of_the_orientation_pair_nothing_but_the_arrows_place_changes(drawn):
    images, labels, masks = shapes.draw("train", seed=3, size=300, orientation_pair=True)
    names = shapes.class_names(orientation_pair=True)
    assert [(old, new) for old, new in zip(shapes.CLASSES, names, strict=True) if old != new] == [
        ("arrow", "bowtie")
    ]
    others = labels != names.index("bowtie")
    assert np.array_equal(labels, drawn[1])
    assert np.array_equal(images[others], drawn[0][others])
    assert np.array_equal(masks[others], drawn[2][others])
    assert Shapes(orientation_pair=True).fingerprint() != Shapes().fingerprint()


def test_a_bowtie_is_an_hourglass_on_its_side():
    _, labels, masks = shapes.draw("train", seed=3, size=600, orientation_pair=True)
    names = shapes.class_names(orientation_pair=True)

    def tall(some):
        """Spread over rows against that over columns, over 1 for what stands upright."""
        places = [np.argwhere(mask).std(axis=0) for mask in some]
        return np.array([rows / columns for rows, columns in places])

    upright = tall(masks[labels == names.index("hourglass")])
    lying = tall(masks[labels == names.index("bowtie")])
    assert upright.min() > 1 > lying.max()  # a turn by up to 20 degrees mixes up none
    turned = tall(np.rot90(masks[labels == names.index("bowtie")], axes=(1, 2)))
    # Means of 60: as far apart as chance puts them.
    spread = np.hypot(upright.std(), turned.std()) / np.sqrt(60)
    assert abs(upright.mean() - turned.mean()) < 4 * spread
