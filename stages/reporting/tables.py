"""A study's numbers for programs: tidy rows, the trade-off for `dvc plots`, the headline for `dvc metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from stages.reporting.collected import Cell, Collected, Result
from stages.reporting.numbers import Numbers
from stages.reporting.summary import concept_rate, retained_rate

COLUMNS = (
    "study",
    "backbone",
    "family",
    "concept",
    "method",
    "seed",
    "prompts",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "protocol",
)
POOLED = "all"  # the seed of rows that are pooled over backbones of one architecture and over seeds


def results(study: Collected, numbers: Numbers) -> pd.DataFrame:
    """One row per measured number: each run's, then those pooled over backbones and seeds (seed "all")."""
    rows = [
        _row(study, r.cell, r.method, str(r.seed), {**row, "protocol": versions([r])}, r.backbone)
        for r in study.results
        for row in r.rows
    ]
    kept_to = {(r.cell, r.method): versions(study.of(r.cell, r.method)) for r in study.results}
    for (cell, method, prompts, metric), number in numbers.items():
        row = {"prompts": prompts, "metric": metric, "value": number.value, "n": number.n}
        row["protocol"] = kept_to[cell, method]
        rows.append(_row(study, cell, method, POOLED, row | {"ci_low": number.low, "ci_high": number.high}))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def versions(results: Iterable[Result]) -> str:
    """The protocol version that results were measured by, "none" before there was one; several if it differs."""
    return ", ".join(sorted({str(result.records.get("evaluate", {}).get("protocol") or "none") for result in results}))


def _row(
    study: Collected, cell: Cell, method: str, seed: str, row: Mapping[str, Any], backbone: str = ""
) -> tuple[Any, ...]:
    place = (study.name, backbone or cell.backbone, study.families[cell.backbone], cell.concept, method, seed)
    return (*place, *(row.get(name) for name in COLUMNS[len(place) :]))


def tradeoff(study: Collected, numbers: Numbers) -> pd.DataFrame:
    """Erasure (share of concept prompts without the concept) against preservation, one row per method, for plots."""
    rows = []
    for cell in (cell for cell in study.cells() if cell.aim == "erase"):
        for method in study.methods(cell):
            shown, retained = (
                numbers.get((cell, method, *key)) for key in (concept_rate(cell), retained_rate(numbers, cell))
            )
            if shown and retained:
                place = {"backbone": cell.backbone, "concept": cell.concept, "method": method}
                erased = {"erasure": 1 - shown.value, "erasure_low": 1 - shown.high, "erasure_high": 1 - shown.low}
                keeps = {
                    "preservation": retained.value,
                    "preservation_low": retained.low,
                    "preservation_high": retained.high,
                }
                rows.append({**place, **erased, **keeps})
    spans = [f"{name}{end}" for name in ("erasure", "preservation") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["backbone", "concept", "method", *spans])


def flat(study: Collected, numbers: Numbers) -> dict[str, float]:
    """The shares of concept prompts that show it and of retained ones that are right, by dotted names for `dvc`."""
    values = {}
    for cell in study.cells():
        for method in study.methods(cell):
            for prompts, metric in (concept_rate(cell), retained_rate(numbers, cell)):
                if number := numbers.get((cell, method, prompts, metric)):
                    values[f"{cell.backbone}.{cell.concept}.{method}.{prompts}_{metric}"] = round(number.value, 6)
    return values
