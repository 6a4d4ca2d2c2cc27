"""A job that fails leaves what was there before: its outputs, their times, and what Snakemake knows of them.

For outputs flagged `update`, Snakemake 9 puts files back after a failure, but then notes down that the failed job made
them: with the refused value still in its file, the next run would find nothing to do. It also copies them, gigabytes
perhaps, and gives them a new time, so that all that rests on them would be made again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from snakemake.persistence import PersistenceBase


def keep_results() -> None:
    """From now on backups are links, and a job whose outputs were put back is not noted down as theirs."""
    if PersistenceBase.finished is not finished:
        PersistenceBase.backup_output = backup_output
        PersistenceBase.restore_output = restore_output
        PersistenceBase.finished = finished


put_back: set[str] = set()  # outputs of jobs that failed and are not yet told of their end
_finished = PersistenceBase.finished


def backup_output(self: PersistenceBase, path: Path) -> None:
    """Links a file to its backup: jobs replace files and never write into them."""
    backup = self._get_backup_path(path)
    self.cleanup_backup(path)  # a killed run's
    backup.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, backup)
        return
    try:
        os.link(path, backup)
    except OSError:  # a file system without links
        shutil.copy2(path, backup)


def restore_output(self: PersistenceBase, path: Path) -> bool:
    """Puts a file or folder back as it was, time included; whether there was one."""
    backup = self._get_backup_path(path)
    if not backup.exists():
        return False
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(backup, path)
    backup.unlink(missing_ok=True)  # replacing a link by another of the same file does nothing
    put_back.add(str(path))
    return True


async def finished(self: PersistenceBase, job: Any) -> None:
    """Notes down what made a job's outputs, unless it failed and they are those from before."""
    kept = put_back.intersection(map(str, job.output))
    if not kept:
        await _finished(self, job)
        return
    put_back.difference_update(kept)
    for path in job.output:
        self._unmark_incomplete(self._get_key(path))
