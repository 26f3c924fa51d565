"""A wrong request gets one to three clear lines, exit status 2, and leaves nothing behind."""

import os
import pickle
import shutil
import subprocess

import pytest
import torch

from tests.conftest import CIFAR, needs_cifar, train_py


def refused(tmp_path, *arguments: str, **options) -> str:
    """What `python train.py ARGUMENTS` says on stderr, having made sure that it refused cleanly."""
    folder = tmp_path / "run"
    done = train_py(f"hydra.run.dir={folder}", *arguments, **options)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 3, done.stderr
    assert "Traceback" not in done.stderr
    assert not folder.exists(), list(folder.rglob("*"))
    return done.stderr


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
    ],
)
def test_refused_before_anything_runs(tmp_path, argument, expected):
    argument = argument.replace("+aug.cutout._target_", "aug.cutout._target_")
    said = refused(tmp_path, "data=shapes", "aug=cutout", argument)
    for words in expected:
        assert words in said


def test_more_held_out_than_cifar10_has(tmp_path):
    assert "50,000" in refused(tmp_path, "data.holdout=60000")


def test_all_problems_are_told_together(tmp_path):
    said = refused(tmp_path, "data.batch_size=0", "trainer.max_epochs=0", "loss.l1=-1")
    assert {line.split(":")[1].strip() for line in said.strip().splitlines()} == {
        "data.batch_size=0", "trainer.max_epochs=0", "loss.l1=-1",
    }  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    assert "gpu" in refused(tmp_path, "data=shapes", "trainer.accelerator=gpu").lower()


def test_cifar10_missing_without_network(tmp_path):
    (tmp_path / "empty").mkdir()
    # A proxy that refuses every connection stands for a machine without network.
    offline = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    said = refused(tmp_path, f"data.root={tmp_path / 'empty'}", env={**os.environ, **offline})
    assert "cifar-10-python.tar.gz" in said
    assert "data=shapes" in said


@needs_cifar
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_batch_is_named_and_never_unpickled(tmp_path, damage):
    root = tmp_path / "data"
    shutil.copytree(CIFAR / "cifar-10-batches-py", root / "cifar-10-batches-py")
    victim = root / "cifar-10-batches-py" / "data_batch_3"
    proof = tmp_path / "executed"
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:1000])
    else:
        victim.write_bytes(pickle.dumps(_Bomb(str(proof))))
    assert "data_batch_3" in refused(tmp_path, f"data.root={root}")
    assert not proof.exists()


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_data_root_that_cannot_be_read(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    said = refused(tmp_path, f"data.root={tmp_path / 'file'}")
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
    assert done.returncode == 2, done.stdout + done.stderr
    assert "hydra.run.dir" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3, done.stderr
