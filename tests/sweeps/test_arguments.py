"""The command line of a sweep: names, tokens, and what is refused."""

import pytest

from augcam.errors import UserError
from augcam.sweeps.arguments import sweep_arguments


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["aug=none,flip", "seed=1"], "'seed','sweep.dir','sweep.name'"),
        (["aug=glob(*)", "~aug.cutout", "+aug/op@aug.blur=blur"],
         "'aug.cutout','aug/op','sweep.dir','sweep.name'"),
        (["aug=rotate", "aug.rotate.limit=range(5,30,5)"], "'aug','sweep.dir','sweep.name'"),
    ],
)  # fmt: skip
def test_keys_that_do_not_vary_are_not_in_the_names(arguments, left_out):
    settled = sweep_arguments(["-m", *arguments, "sweep.name=mine"])
    assert settled[: 1 + len(arguments)] == ["-m", *arguments]
    assert settled[-3] == "sweep.name='mine'"
    assert settled[-1] == f"hydra.job.config.override_dirname.exclude_keys=[{left_out}]"


def test_single_runs_stay_as_they_are():
    assert sweep_arguments(["aug=none", "seed=2"]) == ["aug=none", "seed=2"]


def test_every_start_has_a_word_of_its_own():
    one, two = (sweep_arguments(["-m", "aug=none", "sweep.name=x"])[-1] for _ in range(2))
    assert one.startswith("hydra.callbacks.overview.start=start_")
    assert one != two


@pytest.mark.parametrize("name", ["nan", "2024", "1e3", "true", "inf", "a b"])
def test_a_name_is_a_text_whatever_it_looks_like(name):
    written = f"'{name}'" if " " in name else name
    assert f"sweep.name='{name}'" in sweep_arguments(["-m", "aug=none", f"sweep.name={written}"])


def test_no_name_is_a_new_one():
    for given in ([], ["sweep.name=null"]):
        (name,) = (a for a in sweep_arguments(["-m", *given]) if a.startswith("sweep.name"))
        assert name.startswith("sweep.name='20")


@pytest.mark.parametrize("name", ["'../x'", "a/b", "'..'", "''"])
def test_a_name_stays_in_the_folder_of_sweeps(name):
    with pytest.raises(UserError, match=r"sweep\.dir=DIR takes a path"):
        sweep_arguments(["-m", "aug=none", f"sweep.name={name}"])


def test_joblib_is_a_name_for_processes():
    settled = sweep_arguments(["-m", "hydra/launcher=joblib", "aug=none,flip"])
    assert "hydra/launcher=processes" in settled
    assert "hydra.launcher.n_jobs=-1" in settled
    own = sweep_arguments(["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=3"])
    assert "hydra.launcher.n_jobs=-1" not in own
