"""What circuit breakers watched on held-out prompts: cosines of edited and unedited states, as rows and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.reporting.collect import Cell
    from stages.reporting.tables import Numbers

BREAKER, RETAIN = ("concept", "breaker_cosine"), ("retain", "retain_cosine")


def cosine_rows(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row like a metric's for each kind of prompts, the mean over layers and scales; none without such a record.

    Its `n` counts prompts, not images: those watched, or one for the whole run in a record that does not say how many.
    """
    notes = records.get("train", {}).get("notes") or {}
    cosines, counts = notes.get("cosines") or {}, notes.get("watched_prompts") or {}
    rows = []
    for kind, (prompts, metric) in {"breaker": BREAKER, "retain": RETAIN}.items():
        values = [float(value) for scales in cosines.get(kind, {}).values() for value in scales.values()]
        if values:
            value, n = sum(values) / len(values), counts.get(kind, 1)
            rows.append({"prompts": prompts, "metric": metric, "value": value, "n": n})
    return rows


def cosines(numbers: Numbers, cell: Cell) -> list[str]:
    """One sentence on the circuit breakers of a table, if it has any."""
    said = []
    for where, method, *what in numbers:
        if where == cell and tuple(what) == BREAKER:
            both = (numbers[cell, method, *kind].value for kind in (BREAKER, RETAIN))
            said.append(f"{method} {' / '.join(f'{value:.2f}' for value in both)}")
    about = "Cosine of held-out states to the unedited ones, mean over layers and scales (concept / rest)"
    return [f"{about}: {', '.join(said)}."] if said else []
