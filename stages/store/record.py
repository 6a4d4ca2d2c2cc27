"""The record beside each result: what made it, from what, with what, on what, in how long."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from stages.launch.environment import begun
from stages.params.protocol import protocol_version
from stages.store.files import digest, write_json
from stages.store.processor import processor
from stages.store.tracking import tracking

PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pandas")
PAUSE = 60.0
_current: ContextVar[Record | None] = ContextVar("record", default=None)


class Record:
    """Collects while it is current; `recording` writes it when the work ends well."""

    def __init__(self, folder: Path, stage: str, key: str = "") -> None:
        self.folder, self.stage, self.key = Path(folder), stage, key
        self.curves: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, Any] = {}
        self.pause = PAUSE  # seconds between two checkpoints of a training
        self.started = self.set_up = time.perf_counter()

    @staticmethod
    def checkpoint(label: str) -> Path | None:
        """Where a training of that label, with these parameters, keeps its progress; None outside a recording."""
        record = _current.get()
        return None if record is None else record.folder / f".{label.replace('/', '-')}.{record.key}.checkpoint"

    @staticmethod
    def between() -> float:
        """Seconds between two checkpoints of a training."""
        record = _current.get()
        return PAUSE if record is None else record.pause

    def ready(self) -> None:
        """Says that everything is loaded: what came before is set-up, what follows is work."""
        self.set_up = time.perf_counter()

    @staticmethod
    def losses(label: str, losses: Sequence[float], seconds: float) -> None:
        """Keeps a loss curve, thinned to at most 200 points."""
        if (record := _current.get()) is not None:
            stride = max(1, math.ceil(len(losses) / 200))
            curve = [round(value, 6) for value in losses[::stride]]
            record.curves[label] = {"every": stride, "loss": curve, "seconds": round(seconds, 2)}

    @staticmethod
    def note(**values: Any) -> None:
        """Keeps a few primitives that belong to the result (a chosen checkpoint, a count)."""
        if (record := _current.get()) is not None:
            record.notes |= values


@contextmanager
def recording(
    folder: Path, stage: str, *, params: Mapping[str, Any], seed: int | None = None, inputs: Iterable[Path] = ()
) -> Iterator[Record]:
    """Makes a record current for the block and writes record-<stage>.json at its end; a tracker follows meanwhile.

    JSON has no nan and no inf: they are written as strings, since by then the work is done.
    """
    imports, cpu, commit = time.time() - begun(), time.process_time(), git()
    digests = {str(path): digest(path) for path in inputs if Path(path).exists()}
    record = Record(folder, stage, key=_key(stage, params, seed, digests))
    record.folder.mkdir(parents=True, exist_ok=True)
    for stale in record.folder.glob(".*.checkpoint"):
        if not stale.name.endswith(f".{record.key}.checkpoint"):
            stale.unlink()
    token = _current.set(record)
    try:
        with tracking(folder, stage):
            yield record
    finally:
        _current.reset(token)
    content = {
        "stage": stage,
        "params": params,
        "seed": seed,
        "git": commit,
        "protocol": protocol_version(),
        "versions": versions(),
        "device": device(),
        "processor": processor(),
        "threads": _threads(),
        "seconds": round(time.perf_counter() - record.started, 3),
        "phases": {
            "import": round(imports, 3),
            "set_up": round(record.set_up - record.started, 3),
            "work": round(time.perf_counter() - record.set_up, 3),
        },
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_memory_mb": peak_memory(),
        "inputs": digests,
        "curves": record.curves,
        "notes": record.notes,
    }
    write_json(record.folder / f"record-{stage}.json", _sayable(content))


def _key(*made_of: Any) -> str:
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _sayable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sayable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def git() -> dict[str, Any]:
    """The commit and whether the tree differs from it; nulls outside a checkout, and where there is no git."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(("git", *words), capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": ask("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Python and the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> str:
    """The GPU's name, or the processor's architecture."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu ({platform.machine()})"


def peak_memory() -> float:
    """Peak memory in MB: of the GPU where there is one, of the process otherwise."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()
