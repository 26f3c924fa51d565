"""What a run sets in its process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from augcam.runs import keep_freed_memory

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory()
for _ in range(3):
    torch.ones(2**24)  # 64 MiB, given back at once
before = page_faults()
for _ in range(10):
    torch.ones(2**24)
print(page_faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_memory_that_was_given_back_is_used_again():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    # Anew from the system, 10 x 64 MiB would be 320 pages of 2 MiB, or 163,840 of 4 KiB.
    assert int(done.stdout) < 100
