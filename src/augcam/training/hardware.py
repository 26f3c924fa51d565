"""What `auto` comes to on this machine, and what the machine is."""

import ctypes
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augcam.data.loader import uses_gpu


def auto_precision(accelerator: str) -> str:
    """bf16-mixed where the hardware computes in bfloat16, else 32-true.

    Emulated bfloat16 is far slower than float32: on an AVX2 CPU one step took 25 times as long.
    """
    if uses_gpu(accelerator):
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        return "bf16-mixed" if native else "32-true"
    return "32-true"


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors on the CPU give back, where glibc is the allocator.

    By default blocks above 32 MB, an activation of ResNet18's first stage, go back to the system at
    once, and each new one is filled with zeros, page by page (docs/performance.md has what that costs).
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)  # never


@cache
def augcam_version() -> str:
    """AugCAM's version and, in a clone, its commit: `0.2.0 (1a2b3c4+)`, with + where it was changed."""
    clone = Path(__file__).parents[3]
    commit = ""
    # An installed package may lie in a repository, but that is somebody else's.
    if (clone / ".git").exists():
        try:
            asked = subprocess.run(
                ["git", "--no-optional-locks", "describe", "--always", "--dirty=+", "--exclude=*"],
                cwd=clone, capture_output=True, text=True, timeout=10, check=True,
            )  # fmt: skip
            commit = f" ({asked.stdout.strip()})"
        except (OSError, subprocess.SubprocessError):
            pass
    return version("augcam") + commit


def environment() -> dict[str, Any]:
    """What a number depends on beside the config: versions and machine."""
    import cv2
    import pytorch_lightning

    return {
        "augcam": augcam_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": pytorch_lightning.__version__,
        "albumentations": version("albumentations"),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
