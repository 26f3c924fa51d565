"""The random stream of each sample: pure in (seed, epoch, index), for every transform there is."""

import random
from collections.abc import Callable
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from augcam.data.augment.build import build_pipeline
from augcam.data.augment.ops import AlternatingFlip
from augcam.data.augment.pipeline import Pipeline
from augcam.data.augment.streams import SplitMix
from augcam.errors import UserError
from tests.conftest import compose

FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 0.5}


def cifar_mean():
    """CIFAR-10's, where `fill: mean` asks for it."""
    return (0.4914, 0.4822, 0.4465)


def composed(*overrides: str) -> Any:
    return OmegaConf.to_container(compose(["data=shapes", *overrides]).aug, resolve=True)


def test_no_transform_is_the_identity(image):
    assert np.array_equal(build_pipeline({}, seed=1)(image, 3, 4), image)


def test_the_same_sample_is_drawn_alike_whatever_was_drawn_before(image):
    config = composed("aug=cutout_rotate")
    one, other = build_pipeline(config, 5, cifar_mean), build_pipeline(config, 5, cifar_mean)
    forwards = [one(image, epoch, index) for epoch in (0, 1) for index in range(30)]
    backwards = [other(image, epoch, index) for epoch in (1, 0) for index in reversed(range(30))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))


def test_draws_differ_between_samples_epochs_and_seeds(image):
    config = {"crop": {"_target_": "augcam.data.augment.PadCrop", "padding": 8}}

    def draws(seed, epochs, indices):
        pipeline = build_pipeline(config, seed)
        return [pipeline(image, e, i).tobytes() for e in epochs for i in indices]

    # 17 x 17 shifts: 40 draws have about 37 different ones; one stream for all would have 1.
    assert len(set(draws(1, [0], range(40)))) > 30
    assert len(set(draws(1, range(40), [7]))) > 30
    assert len({draws(seed, [0], [7])[0] for seed in range(40)}) > 30


def test_transforms_are_not_in_lockstep():
    """Two flips with p=0.5 agree half of the time: n=2000 gives 0.5 +- 0.011, 5 sigma is 0.056."""
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 255
    vertical = {"_target_": "albumentations.VerticalFlip", "p": 0.5}
    pipeline = build_pipeline({"h": FLIP, "v": vertical}, seed=1)
    corners = [np.argwhere(pipeline(image, 0, i)[..., 0])[0] // 3 for i in range(2000)]
    down, right = np.array(corners).T
    assert abs(down.mean() - 0.5) < 0.056
    assert abs(right.mean() - 0.5) < 0.056
    assert abs((down == right).mean() - 0.5) < 0.056


def test_neighbours_are_uncorrelated():
    """A flip of sample i says nothing about sample i+1, nor about sample i an epoch later."""
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 0] = 1
    pipeline = build_pipeline({"h": FLIP}, seed=1)
    flips = np.array([[pipeline(image, e, i)[0, 1, 0] for i in range(1500)] for e in range(2)])
    assert abs((flips[0, 1:] == flips[0, :-1]).mean() - 0.5) < 0.065
    assert abs((flips[0] == flips[1]).mean() - 0.5) < 0.065


def test_the_python_stream_is_uniform():
    stream = SplitMix()
    stream.position = 12345
    values = np.array([stream.random() for _ in range(20000)])
    assert np.abs(np.histogram(values, 10, (0, 1))[0] - 2000).max() < 5 * 42  # sqrt(n p q) = 42
    counts = np.bincount([stream.randint(0, 6) for _ in range(7000)], minlength=7)
    assert np.abs(counts - 1000).max() < 5 * 29
    assert max(stream.getrandbits(130) for _ in range(50)).bit_length() > 124


# Every transform of Albumentations that can be built without being told more, in any order of samples.
EVERY = sorted(
    name
    for name, kind in vars(A).items()
    if isinstance(kind, type) and issubclass(kind, A.ImageOnlyTransform | A.DualTransform)
)


def draws(pipeline: Pipeline, image: np.ndarray, order: list[tuple[int, int]]) -> dict:
    """The augmented image of every (epoch, index), drawn in this order."""
    return {(epoch, index): pipeline(image.copy(), epoch, index) for epoch, index in order}


def default_pipeline(name: str, **settings) -> Pipeline:
    try:
        return Pipeline({name: getattr(A, name)(p=0.7, **settings)}, seed=3)
    except Exception as error:
        pytest.skip(f"needs more than its defaults: {type(error).__name__}")


SAMPLES = [(epoch, index) for epoch in (0, 1) for index in range(7)]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_transform_draws_alike_in_any_order(name, image):
    one, other = default_pipeline(name), default_pipeline(name)
    try:
        forwards = draws(one, image, SAMPLES)
    except Exception as error:
        pytest.skip(f"does not fit an image of 32 pixels: {type(error).__name__}")
    shuffled = draws(other, image, random.Random(1).sample(SAMPLES, len(SAMPLES)))
    again = draws(other, image, SAMPLES[::3])
    for sample in SAMPLES:
        assert np.array_equal(forwards[sample], shuffled[sample]), sample
    for sample in SAMPLES[::3]:
        assert np.array_equal(forwards[sample], again[sample]), sample


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_most_transforms_are_covered(image):
    """So that the skips above cannot swallow the test: 87 build and run with their defaults."""
    runs = 0
    for name in EVERY:
        try:
            Pipeline({name: getattr(A, name)(p=1)}, seed=3)(image.copy(), 0, 0)
        except Exception:
            continue
        runs += 1
    assert runs >= 80


def test_half_a_pair_of_gauss_is_not_kept_for_the_next_sample(image):
    """random.gauss draws two numbers at a time and keeps one: it belongs to its own sample."""
    one, other = (default_pipeline("PlanckianJitter", sampling_method="gaussian") for _ in "ab")
    forwards = draws(one, image, SAMPLES)
    backwards = draws(other, image, SAMPLES[::-1])
    assert all(np.array_equal(forwards[sample], backwards[sample]) for sample in SAMPLES)
    assert len({draw.tobytes() for draw in forwards.values()}) > 5


@pytest.mark.parametrize(
    "nest",
    [
        lambda: A.Compose([A.HorizontalFlip(p=0.5), A.OneOf([A.Rotate(p=1), A.GaussNoise(p=2 / 3)])]),
        lambda: A.SomeOf([A.HorizontalFlip(), A.VerticalFlip(), A.Rotate()], n=2, p=0.8),
        lambda: A.RandomOrder([A.Rotate(p=0.5), A.Sequential([A.Blur(), A.GaussNoise()])], n=2),
        lambda: A.OneOrOther(first=A.Rotate(), second=A.GaussNoise(), p=0.5),
        lambda: A.SelectiveChannelTransform([A.GaussNoise(p=1)], channels=(0, 1), p=0.8),
    ],
)  # fmt: skip
def test_compositions_draw_alike_in_any_order(nest, image):
    # Built with a seed of their own or none: the sample's stream replaces it.
    one, other = Pipeline({"nest": nest()}, seed=3), Pipeline({"nest": nest()}, seed=3)
    forwards, backwards = draws(one, image, SAMPLES), draws(other, image, SAMPLES[::-1])
    assert all(np.array_equal(forwards[sample], backwards[sample]) for sample in SAMPLES)
    assert len({draw.tobytes() for draw in forwards.values()}) > 3
    different = draws(Pipeline({"nest": nest()}, seed=4), image, SAMPLES)
    assert any(not np.array_equal(forwards[sample], different[sample]) for sample in SAMPLES)


def test_an_alternating_flip_inside_a_composition_alternates(image):
    pipeline = Pipeline({"all": A.Sequential([AlternatingFlip()], p=1)}, seed=1)
    for index in range(5):
        first, second = pipeline(image, 0, index), pipeline(image, 1, index)
        assert np.array_equal(first, second[:, ::-1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_transform_that_holds_no_finite_number_is_refused(bad):
    """OpenCV's warpAffine never returns from a matrix of NaN."""
    rotate = A.Rotate(limit=10)
    rotate.limit = (-bad, bad)
    for transform in (rotate, A.Compose([A.HorizontalFlip(), A.OneOf([rotate])])):
        with pytest.raises(UserError, match=r"aug\.turn.*finite"):
            Pipeline({"turn": transform}, seed=1)


class Shifted(A.ImageOnlyTransform):
    """Adds what `draw` gives to every pixel."""

    def __init__(self, draw: Callable[[A.ImageOnlyTransform], int]) -> None:
        super().__init__(p=1)
        self.draw = draw

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        return img + np.uint8(self.draw(self))


@pytest.mark.parametrize(
    "draw",
    [
        lambda _: np.random.randint(200),
        lambda _: random.randrange(2),
        lambda _: np.random.default_rng().integers(200),
        lambda _: int(torch.randint(200, ())),
    ],
    ids=["np.random", "random, a coin", "a generator of its own", "torch"],
)
def test_a_transform_that_draws_from_elsewhere_is_refused(image, draw):
    """Its images would depend on the loader workers, and be others after a stop."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    before = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    whole = Pipeline({"all": A.Sequential([A.HorizontalFlip(), Shifted(draw)], p=1)}, seed=1)
    with pytest.raises(
        UserError, match=r"aug\.all: Sequential makes another image .*self\.py_random"
    ):
        whole.check(image)
    assert (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()) == before


def test_a_transform_that_draws_from_the_samples_streams_is_not(image):
    for draw in (
        lambda t: t.py_random.randrange(200) + int(t.py_random.gauss(20, 9)),
        lambda t: t.random_generator.integers(200),
    ):
        pipeline = Pipeline({"x": Shifted(draw)}, seed=1)
        pipeline.check(image)
        assert len({pipeline(image, 0, index).tobytes() for index in range(9)}) > 3


def test_a_class_that_is_left_out_sees_the_pipeline_without_the_transform():
    parts = composed("aug=cutout_rotate")
    spared = parts | {"rotate": parts["rotate"] | {"except": ["cat"]}}
    without = {name: one for name, one in parts.items() if name != "rotate"}

    def pipeline(aug: dict):
        return build_pipeline(aug, 7, cifar_mean, classes=lambda: ("cat", "dog"))

    here, all_of_it, none_of_it = pipeline(spared), pipeline(parts), pipeline(without)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for index in range(30):
        cat, dog = here(image, 2, index, 0), here(image, 2, index, 1)
        assert np.array_equal(cat, none_of_it(image, 2, index))
        assert np.array_equal(dog, all_of_it(image, 2, index))
    with pytest.raises(ValueError, match="rotate: for some classes only"):
        here(image, 2, 0)


def test_views_differ_in_augmix_alone_and_the_first_is_without_it():
    augmix = {"_target_": "augcam.data.augment.AugMix", "severity": 8}
    around = composed("aug=crop_flip_cutout")
    aug = {"crop": around["crop"], "mix": augmix, "flip": around["flip"], "cut": around["cutout"]}
    clean = {name: one for name, one in aug.items() if name != "mix"}
    pipeline, without = build_pipeline(aug, 3, cifar_mean), build_pipeline(clean, 3, cifar_mean)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    other = []
    for index in range(20):
        first, second, third = (pipeline(image, 1, index, view=view) for view in range(3))
        assert np.array_equal(first, without(image, 1, index))
        hole = (first == [round(255 * channel) for channel in cifar_mean()]).all(axis=2)
        assert hole.any()
        assert (second[hole] == first[hole]).all()  # the cutout lies where it lies in the first
        assert np.array_equal(second, pipeline(image, 1, index, view=1))
        other.append(not np.array_equal(second, third) and not np.array_equal(first, second))
    assert sum(other) >= 18
