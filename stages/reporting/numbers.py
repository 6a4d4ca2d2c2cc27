"""Numbers of a study, addressed by table, method, prompt set and metric."""

from __future__ import annotations

from dataclasses import dataclass

from stages.reporting.collected import Cell


@dataclass(frozen=True)
class Part:
    """The number of one training, or of one backbone, by its pictures alone."""

    value: float
    low: float
    high: float
    p: float = 1.0  # of the test that it is 0; of differences alone


@dataclass(frozen=True)
class Number:
    """A measured value with its 95% interval."""

    value: float
    low: float  # NaN without an interval
    high: float
    n: int  # images that it is from; prompts, for numbers that training recorded
    parts: tuple[Part, ...] = ()  # side by side, if they are too few for an interval; the bounds are their outermost
    p: float = 1.0  # of the test that it is 0; of differences alone


Numbers = dict[tuple[Cell, str, str, str], Number]  # (cell, method, prompts, metric) -> pooled over seeds


def measured(numbers: Numbers, cell: Cell) -> set[tuple[str, str]]:
    """The (prompts, metric) of every number that any method of a table has."""
    return {(prompts, metric) for place, _, prompts, metric in numbers if place == cell}
