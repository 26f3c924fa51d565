"""What a run sets in its process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, torch
from augcam.training.hardware import keep_freed_memory

class Allocator(ctypes.Structure):  # struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
        "keepcost")]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Allocator

def kept_of_a_block():
    before = mallinfo2().fordblks  # bytes that the allocator has and nobody uses
    torch.ones(2**24)  # 64 MiB, given back at once
    return mallinfo2().fordblks - before

print(kept_of_a_block())
keep_freed_memory()
print(kept_of_a_block())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.libc_ver()[1] < "2.33", reason="mallinfo2"
)
def test_memory_that_was_given_back_is_kept_for_the_next_block():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    before, after = (int(line) for line in done.stdout.split())
    assert before < 2**20
    assert after > 2**25  # what was free already is used first
