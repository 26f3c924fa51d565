"""Log files: what a disk does not take is missing there, and nothing else comes of it."""

import errno
import io
import logging
import os

from augcam.viz.terminal import LogFile


class FullDisk(io.TextIOWrapper):
    """In place of an open file."""

    def write(self, _text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self):
        self.flush()


def test_a_log_on_a_full_disk_costs_one_line_and_no_traceback(tmp_path, capfd):
    handler = LogFile(tmp_path / "train.log", delay=True)
    handler.stream = FullDisk(io.BytesIO())
    log = logging.Logger("of this test")
    log.addHandler(handler)
    log.info("one")
    log.info("two")
    handler.close()
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        f"{tmp_path / 'train.log'} is incomplete: [Errno 28] No space left on device"
    ]
    assert not err
