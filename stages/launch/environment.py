"""What a command finds around it: settings that libraries read when they are imported, and when it was started."""

from __future__ import annotations

import os

BEGUN = "PALIMPSEST_BEGUN"  # seconds since the epoch, set by the fork server for the command that asked it


def environment(threads: int) -> None:
    """What the libraries read when they are imported: no chatter, the job's threads, cuBLAS the same every time."""
    os.environ |= {"DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def begun() -> float:
    """When this command was started, in seconds since the epoch: with its process, or with the one that asked."""
    import psutil

    return float(os.environ.get(BEGUN, 0)) or psutil.Process().create_time()
