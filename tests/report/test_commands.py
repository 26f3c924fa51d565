"""The command lines that made a study."""

import pytest

from augcam.report.commands import sweep_commands
from augcam.report.load import read_study
from tests.report.conftest import write_run


@pytest.fixture
def groups(tmp_path):
    """Two augmentations with two seeds each, and a third with one seed and another rate."""
    made = {"none": ([1, 2], []), "flip": ([1, 2], []), "cutout": ([1], ["optim.lr=0.2"])}
    for aug, (seeds, rest) in made.items():
        for seed in seeds:
            words = [f"aug={aug}", f"seed={seed}", *rest, "sweep.name=a b"]
            run = write_run(tmp_path / f"{aug}{seed}", *words[:-1])
            run.overrides_file.write_text("".join(f"- {word}\n" for word in words))
    return read_study([tmp_path]).groups


def test_augmentations_with_the_same_seeds_share_a_line(groups):
    assert sorted(sweep_commands(groups)) == [
        "python train.py -m aug=none,flip seed=1,2",
        "python train.py aug=cutout seed=1 optim.lr=0.2",
    ]


def test_seeds_to_add_are_asked_for_in_place_of_the_runs_own(groups):
    assert sorted(sweep_commands(groups, [4, 5])) == [
        "python train.py -m aug=cutout seed=4,5 optim.lr=0.2",
        "python train.py -m aug=none,flip seed=4,5",
    ]


def test_a_run_whose_overrides_cannot_be_read_has_no_line(groups):
    for several in groups.values():
        for run in several:
            run.folder.overrides_file.write_text("- [")
    assert sweep_commands(groups) == []


def test_the_default_pipeline_which_no_word_names_has_a_line_of_its_own(tmp_path):
    for words in (["seed=1"], ["aug=none", "seed=1"], ["aug=flip", "seed=1"]):
        write_run(tmp_path / "_".join(words), *words)
    assert sorted(sweep_commands(read_study([tmp_path]).groups)) == [
        "python train.py -m aug=none,flip seed=1",
        "python train.py seed=1",
    ]
