"""One run at a time in a folder: a lock that the kernel drops with the process, so that a killed run leaves none."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

LOOKING = (  # options of a Snakemake that runs nothing
    *("--dry-run", "--dryrun", "--lint", "--summary", "--detailed-summary", "--dag", "--rulegraph", "--filegraph"),
    *("--list-rules", "--list", "--list-target-rules", "--report", "--version", "--help", "--d3dag"),
)


def claim(folder: Path, options: Sequence[str]) -> TextIO | None:
    """Claims the folder for this process, for as long as the returned file is open, and clears a dead run's lock.

    A run that only looks claims nothing. ValueError if another run is alive. None on a file system without locks.
    """
    looking = looks(options)
    folder.mkdir(exist_ok=True)
    handle = (folder / "alive").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if looking:
            handle.close()
            return None
        handle.seek(0)
        who = handle.read().strip()
        handle.close()
        raise ValueError(
            f"another run is under way in this folder{f' (process {who})' if who else ''}; "
            f"wait for it, or end it: kill {who or '<process>'}"
        ) from None
    except OSError:
        handle.close()
        return None
    shutil.rmtree(folder / "locks", ignore_errors=True)  # nobody who could hold them is alive
    if looking:
        handle.close()
        return None
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def looks(options: Sequence[str]) -> bool:
    """Whether Snakemake's options ask for a plan or a list alone: `-n`, also among other letters, `--lint` ..."""
    return any(option in LOOKING or re.fullmatch(r"-[a-zA-Z]*[nSDl][a-zA-Z]*", option) for option in options)
