"""How often the concept is seen under one method less under another, on the same pictures: the claims of a table.

Two families of claims, each adjusted after Holm: every method against the unedited model and the word filter, and every
two methods against each other. The numbers stand among the others of the study, under the names of `less`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from stages.metrics.intervals import quantile
from stages.metrics.proportions import holm
from stages.reporting.bars import corrected
from stages.reporting.collected import CONTROLS, FILTER, REFERENCES, UNEDITED, Cell, Collected
from stages.reporting.levels import Picture, Trained
from stages.reporting.numbers import Number, Numbers
from stages.reporting.pooling import on_pictures, pool
from stages.reporting.summary import left_share

BEST = "best"  # the method that shows the concept least, or draws it most
CLAIM = 0.05  # an adjusted p-value below it is a claim
POWER = 0.8  # how often the smallest effect that is named would be found
Runs = Mapping[tuple[str, int], Mapping[Picture, float]]  # (backbone, seed) -> the outcome on each picture


def less(metric: str, other: str) -> str:
    """The name of a rate less another method's: `target_rate_less_word_filter`."""
    return f"{metric}_less_{other}"


def claims(study: Collected, numbers: Numbers) -> Numbers:
    """The differences of every table of a study, and what each method leaves above the oracle.

    `p` of a difference is adjusted for the others of its family.
    """
    found: Numbers = {}
    for cell in study.cells():
        for method in study.methods(cell) if cell.aim == "erase" else ():
            if left := corrected(numbers, cell, method):
                found[(cell, method, "concept", left_share(cell))] = left
        found |= _claims(study, numbers, cell)
    return found


def _claims(study: Collected, numbers: Numbers, cell: Cell) -> Numbers:
    runs = {method: _runs(study, cell, method) for method in study.methods(cell)}
    runs = {method: found for method, found in runs.items() if found}
    pairs = [
        (method, other)
        for other in (UNEDITED, FILTER)
        for method in runs
        if other in runs and method not in (UNEDITED, other)
    ]
    found = {
        (cell, method, "concept", less(cell.seen, other)): number for (method, other), number in _adjusted(runs, pairs)
    }
    methods = [method for method in runs if method not in (*REFERENCES, *CONTROLS)]
    sign = 1 if cell.aim == "erase" else -1
    key = ("concept", cell.seen)
    first = min(methods, key=lambda method: sign * numbers[(cell, method, *key)].value, default="")
    for (method, other), number in _adjusted(runs, list(combinations(methods, 2))):
        if first in (method, other):
            name, gap = (other, _turned(number)) if method == first else (method, number)
            found[(cell, name, "concept", less(cell.seen, BEST))] = gap
    return found


def _runs(study: Collected, cell: Cell, method: str) -> Runs:
    runs = {
        (result.backbone, result.seed): on_pictures(result, "concept", cell.seen) for result in study.of(cell, method)
    }
    return {place: pictures for place, pictures in runs.items() if pictures}


def _adjusted(runs: Mapping[str, Runs], pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], Number]]:
    """The difference of each pair of methods that share pictures, its p-value adjusted for all of them."""
    known = {pair: number for pair in pairs if (number := _difference(runs[pair[0]], runs[pair[1]]))}
    chances = holm([number.p for number in known.values()])
    return [(pair, replace(number, p=p)) for (pair, number), p in zip(known.items(), chances, strict=True)]


def _difference(one: Runs, other: Runs) -> Number | None:
    """The first method's rate less the second's: runs of one backbone and seed, or of the seed that stands for all."""
    places = one if len(one) >= len(other) else other
    steps = []
    for backbone, seed in places:
        first, second = (_at(runs, backbone, seed) for runs in (one, other))
        shared = {picture: value - second[picture] for picture, value in first.items() if picture in second}
        if shared:
            steps.append(Trained(backbone, seed, shared))
    return pool(steps, "target_rate_change") if steps else None


def _at(runs: Runs, backbone: str, seed: int) -> Mapping[Picture, float]:
    if (backbone, seed) in runs:
        return runs[backbone, seed]
    return next((pictures for (name, _), pictures in runs.items() if name == backbone), {})


def _turned(number: Number) -> Number:
    parts = tuple(replace(part, value=-part.value, low=-part.high, high=-part.low) for part in number.parts)
    return replace(number, value=-number.value, low=-number.high, high=-number.low, parts=parts)


def tied(numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that cannot be told from the one that does best, without that one itself."""
    return [name for name, gap in _to(numbers, cell, BEST).items() if gap.p >= CLAIM]


def beating(numbers: Numbers, cell: Cell) -> dict[str, Number]:
    """The methods that show the concept less often than the word filter (more, if it is taught), and by how much."""
    sign = 1 if cell.aim == "erase" else -1
    gaps = _to(numbers, cell, FILTER)
    skip = (*REFERENCES, *CONTROLS)
    return {name: gap for name, gap in gaps.items() if gap.p < CLAIM and sign * gap.value < 0 and name not in skip}


def smallest_effect(numbers: Numbers, cell: Cell) -> float | None:
    """The difference between two methods that would be found in `POWER` of all studies like this one; None without any.

    Of a typical pair: the median half width of the intervals, without the adjustment for many claims.
    """
    gaps = _to(numbers, cell, BEST) or _to(numbers, cell, FILTER) or _to(numbers, cell, UNEDITED)
    halves = sorted((gap.high - gap.low) / 2 for gap in gaps.values())
    if not halves:
        return None
    return halves[len(halves) // 2] * (1 + quantile(POWER) / quantile(0.975))


def _to(numbers: Numbers, cell: Cell, other: str) -> dict[str, Number]:
    name = less(cell.seen, other)
    return {method: number for (place, method, _, metric), number in numbers.items() if (place, metric) == (cell, name)}
