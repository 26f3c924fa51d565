"""Two hundred epochs: memory, open files and threads stay where they were, and events stay small."""

import os
import threading
from pathlib import Path
from statistics import median

import pytest

from augcam.training.callbacks.history import Recorder
from tests.training.conftest import tiny_run

EPOCHS = 200


@pytest.mark.slow
def test_two_hundred_epochs_stay_flat(tmp_path, monkeypatch):
    used: list[tuple[float, int, int]] = []  # MB, descriptors, threads, at each epoch's end
    really = Recorder.on_train_epoch_end

    def measured(self, trainer, module):
        really(self, trainer, module)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        used.append(
            (pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors, threading.active_count())
        )

    monkeypatch.setattr(Recorder, "on_train_epoch_end", measured)
    result = tiny_run(
        tmp_path / "run", f"trainer.max_epochs={EPOCHS}", "explain.images=8", "aug=cutout_rotate"
    )
    events = sum(path.stat().st_size for path in result.folder.path.glob("events.*")) / 1e6
    print("\nepoch   MB  descriptors  threads")
    for epoch in range(24, EPOCHS, 25):
        print(f"{epoch + 1:5d} {used[epoch][0]:6.0f} {used[epoch][1]:8d} {used[epoch][2]:8d}")
    print(f"{events:.1f} MB of events")
    # Medians: the thread that writes events has a file open at some moments and not at others.
    early, late = ([median(column) for column in zip(*part, strict=True)]
                   for part in (used[50:100], used[150:]))  # fmt: skip
    assert late[0] - early[0] < 5
    assert late[1:] == early[1:]
    assert events < 50 * 0.3  # 50 pairs of pictures, and scalars
