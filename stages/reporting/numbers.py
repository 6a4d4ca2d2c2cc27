"""Numbers of a study, addressed by table, method, prompt set and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.reporting.collect import Cell


@dataclass(frozen=True)
class Number:
    """A measured value with its 95% interval."""

    value: float
    low: float  # NaN without an interval
    high: float
    n: int  # images that it is from; prompts, for numbers that training recorded


ByPrompt = Mapping[str, Sequence[float]]  # the values of each prompt's images
Numbers = dict[tuple[Cell, str, str, str], Number]  # (cell, method, prompts, metric) -> pooled over seeds


def measured(numbers: Numbers, cell: Cell) -> set[tuple[str, str]]:
    """The (prompts, metric) of every number that any method of a table has."""
    return {(prompts, metric) for place, _, prompts, metric in numbers if place == cell}
