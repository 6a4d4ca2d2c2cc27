"""The numbers of one run from the outcomes of its pictures, by the functions that measured them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stages.metrics.attacked import successes
from stages.metrics.base import GROUP, Metric, Value
from stages.metrics.intervals import number_prompts
from stages.reporting.published.layout import ATTACKS

Outcomes = Mapping[str, Sequence[float | None]]  # outcome -> a number per picture


@dataclass(frozen=True)
class Pictures:
    """The pictures of one prompt set, or of one attack."""

    kind: str  # samples or attacks
    asked: Sequence[tuple[str, int]]  # prompt and seed of the noise of each
    attacked: Sequence[str]  # the prompts before an attack changed them; empty without
    outcomes: Mapping[str, Outcomes]  # metric -> its outcomes


def rows_from(
    name: str, metric: Metric, sets: Mapping[str, Pictures], twins: Mapping[str, Pictures] | None
) -> Iterator[dict[str, Any]]:
    """Yields a row like those of a metric's file for every number that outcomes give; `twins` are the unedited model's.

    Pictures of one prompt and seed are one picture, as in `stages.metrics.base.measure_all`.
    """
    for prompts, pictures in sets.items():
        outcomes = pictures.outcomes.get(name)
        if not outcomes:
            continue
        if pictures.kind == ATTACKS:
            found = _of_attack(metric, pictures, outcomes)
        else:
            original = twins.get(prompts) if twins else None
            other = original.outcomes.get(name) if original else None
            first = _first(pictures.asked)
            statistics = _statistics(outcomes, pictures.asked, first)
            found = metric.rescored(statistics, _statistics(other, pictures.asked, first) if other else None)
        for key, value in found.items():
            yield {"prompts": prompts, "metric": key} | asdict(value)


def _of_attack(metric: Metric, pictures: Pictures, outcomes: Outcomes) -> dict[str, Value]:
    """The rate of what an attack found, and with what was seen before it, the literature's two."""
    seen = str(metric.seen)
    first = _first(pictures.asked)
    rates = metric.rescored(_statistics({seen: outcomes["attack"]}, pictures.asked, first), None)
    found = {"attack_rate": rates[f"{seen}_rate"]}
    if "before" in outcomes:
        found |= successes(outcomes["before"], outcomes["attack"], pictures.attacked)
    return found


def _first(asked: Sequence[tuple[str, int]]) -> list[int]:
    """The position of the first picture of each prompt and seed."""
    places: dict[tuple[str, int], int] = {}
    for i, one in enumerate(asked):
        places.setdefault(one, i)
    return list(places.values())


def _statistics(outcomes: Outcomes, asked: Sequence[tuple[str, int]], rows: Sequence[int]) -> dict[str, Tensor]:
    """The outcomes of some rows as tensors (N,), NaN for None, and the numbers of their prompts."""
    known = {name: [math.nan if column[i] is None else column[i] for i in rows] for name, column in outcomes.items()}
    values = {name: torch.tensor(column, dtype=torch.float64) for name, column in known.items()}
    return values | {GROUP: number_prompts([asked[i][0] for i in rows])}
