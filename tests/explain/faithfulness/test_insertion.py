"""Insertion and deletion: arithmetic by hand, and exact repetition."""

import numpy as np
import pytest
import torch

from augcam.errors import UserError
from augcam.explain.faithfulness.insertion import insertion_deletion
from tests.explain.faithfulness.made import (
    FIRST,
    TEXTBOOK,
    additive,
    pictures,
    ranked,
    recorder,
    sparse_maps,
)


class TestInsertionDeletion:
    def test_additive_model_known_answer(self):
        found = insertion_deletion(
            additive,
            TEXTBOOK,
            ranked(TEXTBOOK[:, 0]),
            FIRST,
            steps=4,
            baseline=torch.zeros(1, 3, 2, 2),
        )["map"]
        assert found.deletion == pytest.approx([0.375])
        assert found.insertion == pytest.approx([0.625])
        assert found.deletion_curve[0] == pytest.approx([1, 0.6, 0.3, 0.1, 0], abs=1e-6)
        assert found.insertion_curve[0] == pytest.approx([0, 0.4, 0.7, 0.9, 1], abs=1e-6)
        assert found.fractions == pytest.approx([0, 0.25, 0.5, 0.75, 1])

    def test_each_map_has_its_own_areas_and_the_inverted_one_swaps_them(self):
        ranks = {"map": ranked(TEXTBOOK[:, 0])["map"], "inverted": ranked(-TEXTBOOK[:, 0])["map"]}
        found = insertion_deletion(
            additive, TEXTBOOK, ranks, FIRST, steps=4, baseline=torch.zeros(1, 3, 2, 2)
        )
        assert found["map"].deletion == pytest.approx([0.375])
        assert found["inverted"].deletion == pytest.approx([0.625])
        assert found["inverted"].insertion == pytest.approx([0.375])

    def test_score_is_the_target_s(self):
        images = TEXTBOOK.repeat(2, 1, 1, 1)
        targets = torch.tensor([0, 1])
        found = insertion_deletion(additive, images, ranked(images[:, 0]), targets, steps=4)
        assert found["map"].deletion == pytest.approx([0.375, -0.375])

    def test_insertion_starts_blurred_and_deletion_ends_at_the_mean(self):
        images, (predict, seen) = pictures(), recorder()
        targets = torch.zeros(3).long()
        found = insertion_deletion(predict, images, ranked(images[:, 0]), targets, steps=2)["map"]
        whole, empty, start = seen[:3]
        assert torch.equal(whole, images)
        assert not empty.any()
        # A blur keeps the mean of a channel and takes most of the variance of noise.
        assert torch.allclose(start.mean((2, 3)), images.mean((2, 3)), atol=1e-5)
        assert start.var() < 0.2 * images.var()
        assert found.insertion_curve[:, 0] == pytest.approx(additive(start)[:, 0].numpy())
        assert found.deletion_curve[:, -1] == pytest.approx([0, 0, 0])

    @pytest.mark.parametrize("steps", [1, 3, 10, 64])
    def test_each_step_removes_its_share_of_pixels(self, steps):
        images, (predict, seen) = pictures(1).abs() + 1, recorder()
        ranks = ranked(sparse_maps(1))
        found = insertion_deletion(predict, images, ranks, FIRST, steps=steps)["map"]
        deletions = seen[3 + steps - 1 :]
        removed = [int((shown[0, 0] == 0).sum()) for shown in deletions]
        assert len(removed) == steps - 1
        assert removed == [round(64 * step / steps) for step in range(1, steps)]
        assert found.fractions[[0, -1]].tolist() == [0, 1]

    def test_important_pixels_go_first_and_ties_follow_the_seed(self):
        images, maps = pictures(2).abs() + 1, sparse_maps(2, filled=4)
        removed = {}
        for seed in (1, 2):
            predict, seen = recorder()
            insertion_deletion(
                predict, images, ranked(maps, seed), torch.zeros(2).long(), steps=8, batch=1
            )
            # 6 whole, empty and blurred; 14 insertions; then 8 pixels deleted from image 0.
            removed[seed] = seen[20][0, 0] == 0
            assert removed[seed].sum() == 8
            assert removed[seed][maps[0] > 0].all()
        assert not torch.equal(removed[1], removed[2])

    def test_batches_do_not_matter_and_two_calls_agree_to_the_bit(self):
        images, maps = pictures(5), sparse_maps(5)
        targets = torch.tensor([0, 1, 0, 1, 0])
        first, second, split = (
            insertion_deletion(additive, images, ranked(maps), targets, batch=batch)["map"]
            for batch in (128, 128, 2)
        )
        for one, two, three in zip(first, second, split, strict=True):
            assert np.array_equal(one, two)
            assert one == pytest.approx(three, abs=1e-5)

    @pytest.mark.parametrize("level", [0.0, 0.3, float("nan"), float("inf")])
    def test_a_degenerate_map_is_ranked_like_a_random_one(self, level):
        images = pictures(200, side=4).abs()
        targets = torch.zeros(200).long()
        maps = torch.full((200, 4, 4), level)
        found = insertion_deletion(
            additive, images, ranked(maps), targets, steps=16, baseline=torch.zeros_like(images)
        )["map"]
        # In a random order the additive score falls in a straight line, on average.
        total = additive(images)[:, 0].numpy()
        assert (found.deletion / total).mean() == pytest.approx(0.5, abs=0.01)
        assert np.isfinite(found.insertion).all()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"steps": 0}, "steps=0: 1 to 64"),
            ({"steps": 65}, "steps=65"),
            ({"baseline": torch.zeros(3, 3, 4, 4)}, "baseline has the shape"),
        ],
    )
    def test_wrong_requests(self, change, words):
        ranks = ranked(np.zeros((3, 8, 8)))
        with pytest.raises(UserError, match=words):
            insertion_deletion(additive, pictures(), ranks, torch.zeros(3).long(), **change)
