"""The order of an epoch, its batches, and a loader that goes on where it was saved."""

import os

import numpy as np
import pytest
import torch

from augcam.data.augment.build import build_pipeline
from augcam.data.datasets.base import ImageSet
from augcam.data.loader import (
    AugmentedBatches,
    Batch,
    EpochLoader,
    EpochOrder,
    EvalLoader,
    auto_workers,
)
from augcam.errors import UserError
from tests.data.noise import AUG, Random


class TestOrder:
    def test_an_epoch_takes_each_image_once_in_an_order_of_its_own(self):
        order = EpochOrder(size=103, batch_size=10, seed=1)
        epochs = []
        for epoch in (0, 1, 0):
            order.set_epoch(epoch)
            epochs.append([index for _, batch in order for index in batch.tolist()])
        assert len(order) == 10
        assert all(len(set(indices)) == 100 for indices in epochs)  # 3 are left out
        assert epochs[0] == epochs[2]
        assert sum(a == b for a, b in zip(epochs[0], epochs[1], strict=True)) < 10  # 1 by chance
        assert set(epochs[0]) != set(epochs[1])  # not always the same 3

    def test_ranks_share_out_the_batches_of_one_process(self):
        whole = [set(batch.tolist()) for _, batch in EpochOrder(103, 12, seed=1)]
        ranks = [list(EpochOrder(103, 4, 1, rank, world_size=3)) for rank in range(3)]
        assert [len(batches) for batches in ranks] == [8, 8, 8]
        for number, together in enumerate(whole):
            parts = [batches[number][1].tolist() for batches in ranks]
            assert [len(part) for part in parts] == [4, 4, 4]
            assert set().union(*parts) == together

    def test_a_set_smaller_than_a_batch_is_one_batch(self):
        ((_, batch),) = EpochOrder(size=7, batch_size=128, seed=0)
        assert sorted(batch) == list(range(7))

    @pytest.mark.parametrize(
        ("size", "batch_size", "ranks", "left_out"),
        [(103, 10, 1, 3), (103, 12, 3, 31), (7, 128, 1, 0)],
    )
    def test_what_fills_no_batch_is_left_out(self, size, batch_size, ranks, left_out):
        orders = [EpochOrder(size, batch_size, 1, rank, ranks) for rank in range(ranks)]
        seen = sum(len(batch) for order in orders for _, batch in order)
        assert [order.left_out for order in orders] == [left_out] * ranks
        assert size - seen == left_out

    def test_fewer_images_than_processes(self):
        with pytest.raises(UserError, match="1 training images cannot be shared among 2"):
            EpochOrder(size=1, batch_size=4, seed=0, world_size=2)

    def test_eval_ranks_see_each_image_once(self):
        images = Random().test()
        for world_size in (1, 2, 3):
            found = [
                index
                for rank in range(world_size)
                for batch in EvalLoader(images, 4, rank, world_size)
                for index in batch.index.tolist()
            ]
            assert sorted(found) == list(range(13))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_views_come_one_after_the_other_and_are_the_same_with_any_workers():
    pipeline = build_pipeline({"mix": {"_target_": "augcam.data.augment.AugMix"}}, 1)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)

    def batches(workers: int) -> list[Batch]:
        batches = AugmentedBatches(ImageSet(images, np.arange(12) % 4), pipeline, views=3)
        loader = EpochLoader(batches, EpochOrder(12, 4, seed=1), workers)
        found = list(loader)
        loader.close()
        return found

    plain = batches(0)
    for one, other in zip(plain, batches(2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert len(one.images) == 12
        assert len(one.labels) == len(one.index) == 4
        assert np.array_equal(one.images[:4], images[one.index.numpy()])
        second = pipeline(images[one.index[1]], 0, int(one.index[1]), view=2)
        assert np.array_equal(one.images[9], second)


class TestEpochLoader:
    def loader(self, workers: int = 0) -> EpochLoader:
        batches = AugmentedBatches(Random().train(), build_pipeline(AUG, 1))
        return EpochLoader(batches, EpochOrder(40, 4, seed=1), workers)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_it_goes_on_where_it_was_saved(self, workers):
        first = self.loader(workers)
        first.sampler.set_epoch(2)
        batches = iter(first)
        for _ in range(3):
            next(batches)
        state = first.state_dict()
        assert state == {"epoch": 2, "batches": 3}  # not those fetched ahead
        rest = [batch.images for batch in batches]
        second = self.loader(workers)
        resumed = iter(second)
        second.load_state_dict(state)
        assert second.state_dict() == state
        second.sampler.set_epoch(2)
        again = [batch.images for batch in resumed]
        assert len(again) == len(rest) == 7
        assert all(torch.equal(a, b) for a, b in zip(again, rest, strict=True))
        assert len(list(second)) == 10  # the next epoch is whole
        first.close()
        second.close()

    def test_a_state_of_another_epoch_skips_nothing(self):
        loader = self.loader()
        loader.load_state_dict({"epoch": 0, "batches": 9})
        loader.sampler.set_epoch(1)
        assert len(list(loader)) == 10

    def test_an_epoch_cut_short_does_not_reach_into_the_next(self):
        loader = self.loader(workers=2)
        next(iter(loader))
        loader.sampler.set_epoch(1)
        expected = self.loader()
        expected.sampler.set_epoch(1)
        for a, b in zip(loader, expected, strict=True):
            assert torch.equal(a.images, b.images)
        loader.close()

    def test_a_worker_hands_over_bytes_and_not_file_descriptors(self):
        """A tensor in shared memory is fetched from the worker, which has other things to do."""
        loader = self.loader(workers=1)
        for batch in loader:
            assert not any(part.is_shared() for part in batch)
        loader.close()

    def test_the_global_random_state_is_left_alone(self):
        before = torch.get_rng_state()
        list(self.loader())
        assert torch.equal(torch.get_rng_state(), before)


def test_loader_processes_are_as_many_as_the_jobs_own_cores_allow(monkeypatch):
    assert auto_workers("cpu") == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    for cores, devices, workers in ((8, 1, 7), (8, 2, 3), (1, 1, 1), (128, 1, 16)):
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False
        )
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=devices: n)
        assert auto_workers("gpu") == workers
