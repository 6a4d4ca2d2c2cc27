"""What samples are compared with, as statistics that are computed once and kept on disk for all runs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.params.project import home
from stages.store.files import replacing

FOLDER = Path("artifacts", "cache", "references")

log = logging.getLogger(__name__)


def kept(asked: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors that `make` computes, read from disk if they were computed for the same `asked` before.

    `asked` are primitives that decide the result. A file that cannot be read is made again. Outside a project, where
    there is no folder artifacts/, nothing is kept.
    """
    if not (home() / FOLDER.parts[0]).is_dir():
        return make()
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    path = home() / FOLDER / f"{name}.safetensors"
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError as error:
            log.warning("%s cannot be read (%s): made again", path, error)
    tensors = make()
    with replacing(path) as temporary:
        save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    return tensors


def stamps(folder: Path | str) -> list[list[Any]]:
    """Name, size and time of change of every file in a folder, by name: they change with its content."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def streamed_moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) over n - 1, in float64, of features that come in batches (B, D).

    No batch is kept: moments of parts are joined as in Chan et al. 1979. ValueError for less than two rows.
    """
    count, mean, spread = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = batch.double().cpu()
        own = rows.mean(0)
        centred, gap = rows - own, own - mean
        spread = spread + centred.T @ centred + torch.outer(gap, gap) * (count * len(rows) / (count + len(rows)))
        mean = mean + gap * (len(rows) / (count + len(rows)))
        count += len(rows)
    if count < 2:
        raise ValueError(f"a covariance needs two rows at least, got {count}")
    return mean, spread / (count - 1)
