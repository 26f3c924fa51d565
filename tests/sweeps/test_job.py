"""One job of a sweep: its failure stays in its folder, and it takes a GPU that no other has."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from augcam.errors import UserError
from augcam.sweeps import job


@pytest.fixture
def alone(monkeypatch):
    """Hydra's config of a job that runs with no other beside it."""
    config = OmegaConf.create(
        {"runtime": {"choices": {"hydra/launcher": "processes"}}, "launcher": {"n_jobs": 1}}
    )
    monkeypatch.setattr(HydraConfig, "get", lambda: config)


def test_a_failure_is_kept_and_stops_nothing(tmp_path, alone):
    with job.sweep_job(tmp_path):
        raise ZeroDivisionError("by zero")
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    assert text.startswith("augcam: ZeroDivisionError: by zero")
    assert "Traceback" in text
    with job.sweep_job(tmp_path):
        raise UserError("seed=x: should be an integer")
    assert file.read_text() == "augcam: seed=x: should be an integer\n"
    with job.sweep_job(tmp_path):
        pass
    assert not file.exists()  # of a job that has gone through since


def test_a_failure_that_cannot_be_kept_goes_to_the_launcher(tmp_path, alone, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job, "write_atomically", full)
    with pytest.raises(ZeroDivisionError), job.sweep_job(tmp_path):
        raise ZeroDivisionError


def test_ctrl_c_ends_the_job_and_is_no_failure(tmp_path, alone):
    with pytest.raises(SystemExit) as ended, job.sweep_job(tmp_path):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert not list(tmp_path.iterdir())


def test_a_job_takes_the_first_gpu_that_no_other_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(job.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(job, "_LOCKS", [])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    taken = []
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        job.use_one_gpu()
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["4", "7"]


def test_without_a_choice_of_gpus_nothing_is_set(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    job.use_one_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("gpus", "cores", "jobs"), [(3, 64, 3), (0, 8, 4), (0, 1, 1), (0, None, 1)]
)
def test_jobs_at_once(monkeypatch, gpus, cores, jobs):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert job.jobs_at_once() == jobs


def test_a_second_ctrl_c_is_handed_on_and_nobody_is_left_behind(monkeypatch):
    """A process that ends at its second SIGINT, and a user who presses Ctrl-C twice."""
    stubborn = (
        "import signal, time\n"
        "def once(*_):\n"
        "    signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "    print('saving', flush=True)\n"
        "signal.signal(signal.SIGINT, once)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.05)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    wait = process.wait

    def interrupted():
        monkeypatch.setattr(process, "wait", wait)
        assert process.stdout.readline() == b"saving\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "wait", interrupted)
    job.stop([process], signal.SIGINT)
    assert process.returncode == -signal.SIGINT
