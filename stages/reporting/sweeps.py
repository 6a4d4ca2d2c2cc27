"""Sweeps: the best of a method's variants for every pair of values of two fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.params.names import split
from stages.reporting.collected import Cell, Collected
from stages.reporting.leaders import leader, swept
from stages.reporting.numbers import Numbers


@dataclass(frozen=True)
class Sweep:
    """A method over the two of its fields with most values."""

    method: str
    fields: tuple[str, str]  # of the rows, of the columns; the first is empty if only one field was swept
    rows: tuple[Any, ...]  # values of the first field
    columns: tuple[Any, ...]  # values of the second field
    best: tuple[tuple[str | None, ...], ...]  # [row][column] -> the variant that does best there, None if none was run

    def rates(self, numbers: Numbers, cell: Cell, key: tuple[str, str]) -> np.ndarray:
        """The best variants' values of one (prompts, metric), (rows, columns), NaN if there is none."""
        cells = [[numbers.get((cell, name or "", *key)) for name in line] for line in self.best]
        return np.array([[np.nan if number is None else number.value for number in line] for line in cells])


def sweeps(study: Collected, numbers: Numbers, cell: Cell) -> list[Sweep]:
    """Every method of a table that was swept over the values of its fields."""
    return [_sweep(study, numbers, cell, method, variants) for method, variants in swept(study, cell).items()]


def _sweep(study: Collected, numbers: Numbers, cell: Cell, method: str, variants: Sequence[str]) -> Sweep:
    given = {name: {field: _key(value) for field, value in split(name)[1].items()} for name in variants}
    values: dict[str, dict[Any, None]] = {}
    for fields in given.values():
        for field, value in fields.items():
            values.setdefault(field, {})[value] = None
    *others, column = sorted(values, key=lambda field: len(values[field]))  # stable: of equals, the last in the name
    row = others[-1] if others else ""
    rows, columns = (tuple(values[field]) if field else (None,) for field in (row, column))

    def best(down: Any, across: Any) -> str | None:
        variants = [name for name, fields in given.items() if (fields.get(row), fields.get(column)) == (down, across)]
        return leader(study, numbers, cell, variants) if variants else None

    return Sweep(method, (row, column), rows, columns, tuple(tuple(best(r, c) for c in columns) for r in rows))


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
