"""The machines that a study's numbers were made on; a table of several says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stages.reporting.collected import Cell, Collected, Result
from stages.reporting.formats import counted

WIDEST = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2", "avx", "sve2", "sve", "asimd")  # the best first


def machines(study: Collected, cell: Cell | None = None) -> list[str]:
    """Every machine that the records of a study, or of one of its tables, name, the one with most runs first."""
    return [name for name, _ in _counts(study.of(cell) if cell else study.results).most_common()]


def mixture(study: Collected, cell: Cell) -> str:
    """A sentence that names the machines of a table of several; empty for one.

    Runs of one seed draw other noise or round otherwise on another machine, so a difference between them may be its.
    """
    counts = _counts(study.of(cell))
    if len(counts) < 2:
        return ""
    parts = "; ".join(f"{counted(n, 'run')} on {name}" for name, n in counts.most_common())
    return f"This table mixes machines, and a difference between its rows can be one between those: {parts}"


def machine(record: Mapping[str, Any]) -> str:
    """The GPU of a record, or its processor with its widest instructions and what holds the libraries back."""
    device, about = str(record.get("device") or "no device recorded"), record.get("processor") or {}
    if not device.startswith("cpu") or not about:
        return device
    sets = [name for name in WIDEST if name in about.get("instructions", ())]
    kernels = f"torch's kernels {about['kernels']}" if about.get("kernels") else ""
    held = ", ".join(f"{key}={value}" for key, value in sorted(about.get("held", {}).items()))
    details = [about["name"], f"up to {sets[0]}" if sets else "", kernels, f"held to {held}" if held else ""]
    return ", ".join(filter(None, details))


def _counts(results: Sequence[Result]) -> Counter[str]:
    """How many runs each machine made; a run of several machines counts for each."""
    return Counter(name for result in results for name in sorted({machine(r) for r in result.records.values()}))
