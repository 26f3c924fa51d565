"""A wrong request gets one to three clear lines, exit status 2, and leaves nothing behind."""

import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
import torch

from augcam.cli.main import main
from tests.conftest import CIFAR, needs_cifar, train_py


@pytest.fixture
def refused(tmp_path, monkeypatch, refusal) -> Callable[..., str]:
    """What `augcam train ARGUMENTS` says on stderr, having made sure that it refused cleanly."""
    monkeypatch.chdir(tmp_path)

    def told(*arguments: str) -> str:
        before = set(tmp_path.rglob("*"))
        given = " ".join(arguments)
        folder = [] if re.search(r"hydra\.run\.dir|run=|name=|-m", given) else ["hydra.run.dir=run"]
        said = refusal("train", *folder, *arguments)
        assert all(len(line) < 700 for line in said.splitlines()), said
        left = {path.name for path in set(tmp_path.rglob("*")) - before}
        assert all(name == "outputs" or name.endswith(".lock") for name in left), left
        return said

    return told


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("aug=cutot", ["aug=cutot", "cutout"]),
        ("data=shape", ["data=shape", "shapes"]),
        ("model=resnet8", ["model=resnet8", "resnet18"]),
        ("trainer.max_epoch=3", ["trainer.max_epoch", "max_epochs"]),
        ("agu=none", ["agu", "did you mean aug"]),
        ("trainer.max_epochs=-1", ["trainer.max_epochs=-1", "greater than or equal to 1"]),
        ("data.batch_size=0", ["data.batch_size=0", "greater than or equal to 1"]),
        ("data.batch_size=many", ["data.batch_size=many", "integer"]),
        ("data.holdout=60000", ["data.holdout=60000", "train_size=6000"]),
        ("aug.cutout.p=1.7", ["cutout", "1.7"]),
        ("+aug.cutout.max_holes=3", ["max_holes", "num_holes_range"]),
        ("optim.lr=0", ["optim.lr=0", "greater than 0"]),
        ("trainer.precision=8", ["trainer.precision=8", "bf16-mixed"]),
        ("optim._target_=os.system", ["optim._target_=os.system"]),
        ("+aug.cutout._target_=os.system", ["aug.cutout._target_=os.system"]),
        ("run=somewhere", ["run=", "somewhere", "not a run folder"]),
        ("aug=1", ["aug=1", "unknown", "cutout_rotate"]),
        ("aug=[1]", ["aug=[1]", "unknown"]),
        ("hydra.verbose=0", ["hydra.verbose=0", "must be true, false"]),
        ("trainer=7", ["trainer=7", "ddp", "default"]),
        ("~scheduler=0", ["~scheduler=0", "onecycle"]),
        ("=3", ["=3", "key=value"]),
        ("hydra.run.dir=", ["hydra.run.dir=", "must be a folder"]),
        ("hydra.run.dir=null", ["hydra.run.dir", "not Optional"]),
        ("trainer.num_nodes=2", ["trainer.num_nodes=2", "MASTER_ADDR"]),
        ("aug.cutout.p=nan", ["aug.cutout.p=nan", "finite"]),
        ("trainer.precision=bf16-true", ["trainer.precision=bf16-true", "bf16-mixed"]),
        ("scheduler.div_factor=0", ["scheduler.div_factor=0", "greater than 0"]),
        ("optim._target_=torch.optim.SDG", ["torch.optim.SDG", "did you mean", "SGD"]),
        (
            "optim._target_=torch.optim.lr_scheduler.StepLR",
            ["optim._target_", "is not an Optimizer"],
        ),
        ("+optim.no_such=1", ["optim", "no_such"]),
        ("aug=" + "x" * 3000, ["aug=xxx", "[...]", "unknown"]),
        ("name=" + "x" * 3000, ["name=xxx", "[...]"]),
        ("nokey=" + "x" * 3000, ["nokey"]),
        ("k" * 3000 + "=1", ["kkk", "[...]", "key=value"]),
        ("data.holdout=" + "9" * 3000, ["data.holdout=999", "[...]"]),
    ],
)
def test_refused_before_anything_runs(refused, argument, expected):
    argument = argument.replace("+aug.cutout._target_", "aug.cutout._target_")
    said = refused("data=shapes", "aug=cutout", argument)
    for words in expected:
        assert words in said


def test_more_held_out_than_cifar10_has(refused):
    assert "50,000" in refused("data.holdout=60000")


def test_all_problems_are_told_together(refused):
    said = refused("data.batch_size=0", "trainer.max_epochs=0", "loss.l1=-1")
    assert {line.split(":")[1].strip() for line in said.strip().splitlines()} == {
        "data.batch_size=0", "trainer.max_epochs=0", "loss.l1=-1",
    }  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(refused):
    assert "gpu" in refused("data=shapes", "trainer.accelerator=gpu").lower()


def test_cifar10_missing_without_network(refused, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    # A proxy that refuses every connection stands for a machine without network.
    offline = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    for name, value in offline.items():
        monkeypatch.setenv(name, value)
    said = refused(f"data.root={tmp_path / 'empty'}")
    assert "cifar-10-python.tar.gz" in said
    assert "data=shapes" in said


@needs_cifar
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_batch_is_named_and_never_unpickled(refused, tmp_path, damage):
    root = tmp_path / "data"
    shutil.copytree(CIFAR / "cifar-10-batches-py", root / "cifar-10-batches-py")
    victim = root / "cifar-10-batches-py" / "data_batch_3"
    proof = tmp_path / "executed"
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:1000])
    else:
        victim.write_bytes(pickle.dumps(_Bomb(str(proof))))
    assert "data_batch_3" in refused(f"data.root={root}")
    assert not proof.exists()


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_data_root_that_cannot_be_read(refused, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    said = refused(f"data.root={tmp_path / 'file'}")
    assert str(tmp_path / "file") in said


def test_an_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = train_py(f"hydra.run.dir={tmp_path / 'file' / 'run'}", "data=shapes")
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_full_or_read_only_output_folder(tmp_path, kind):
    place = tmp_path / "outputs"
    place.mkdir()
    option = "size=4k" if kind == "full" else "size=1m,ro"
    script = f'mount -t tmpfs -o {option} none "$0" && shift 0 && exec "$@"'
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(place), "true"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("no mount namespaces here")
    import sys

    from tests.conftest import ROOT

    command = [sys.executable, str(ROOT / "train.py"), "data=shapes", f"hydra.run.dir={place}/run"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(place), *command],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    # A full disk is no wrong request: the same command is right when there is space.
    assert done.returncode == (1 if kind == "full" else 2), done.stdout + done.stderr
    assert "hydra.run.dir" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3, done.stderr


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--foo"], "unrecognized arguments: --foo"),
        (["--info", "x"], "invalid choice"),
        (["--cfg"], "expected one argument"),
        (["-m", "seed=1,2", "--cfg", "job"], "--cfg shows one config: leave -m and the lists out"),
        (["-m", "seed=1,2", "--info"], "--info shows one config: leave -m and the lists out"),
    ],
)
def test_a_flag_that_there_is_not_is_refused_in_one_line(refused, flags, expected):
    said = refused("data=shapes", *flags)
    assert expected in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job"],
        ["data=shapes", "--cfg", "job", "aug=flip"],
        ["-c", "job", "-p", "data", "seed=2"],
    ],
)
def test_the_whole_config_is_printed(tmp_path, monkeypatch, capfd, arguments):
    monkeypatch.chdir(tmp_path)
    main(["train", *arguments])
    assert "batch_size:" in capfd.readouterr().out
    assert not list(tmp_path.iterdir())
