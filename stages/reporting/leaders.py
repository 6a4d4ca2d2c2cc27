"""Who leads a table and by how much, and what counts as doing what was asked."""

from __future__ import annotations

from collections.abc import Sequence

from stages.metrics.base import Column
from stages.params.names import split
from stages.reporting.collect import REFERENCES, UNEDITED, Cell, Collected
from stages.reporting.numbers import Number, Numbers
from stages.reporting.summary import columns, concept_rate, retained_rate

FLOOR = 0.1  # an unedited model that shows the concept in less than this share of its prompts leaves nothing to erase
ERASED = 0.25  # a concept seen in at most this share of its prompts counts as erased,
SHARE = 0.5  # if that is at most this share of what the unedited model shows
KEPT = 0.05  # retained prompts may lose at most this share
ASKED = 0.1  # the rest of the concept's prompts may lose this share, if the concept is to be drawn
LEARNED = 0.7  # a new word's object seen in at least this share of its prompts counts as learned


def comparable(numbers: Numbers, cell: Cell) -> bool:
    """Whether the unedited model leaves anything to do: a concept that it shows, or a word that it does not know yet.

    True if its rate was not measured.
    """
    before = numbers.get((cell, UNEDITED, *concept_rate(cell)))
    if before is None:
        return True
    return before.value >= FLOOR if cell.aim == "erase" else before.value < LEARNED


def goal(numbers: Numbers, cell: Cell) -> float:
    """The share of its prompts that may still show a concept, or in which a word's object has to be drawn."""
    if cell.aim != "erase":
        return LEARNED
    before = numbers.get((cell, UNEDITED, *concept_rate(cell)))
    return ERASED if before is None else min(ERASED, SHARE * before.value)


def candidates(study: Collected, numbers: Numbers, cell: Cell) -> dict[str, Number]:
    """How often each method but the references shows the concept."""
    names = [name for name in study.methods(cell) if name not in REFERENCES]
    rates = {name: numbers.get((cell, name, *concept_rate(cell))) for name in names}
    return {name: number for name, number in rates.items() if number}


def keepers(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods whose retained prompts stay within `KEPT` of the unedited model's."""
    key = retained_rate(numbers, cell)
    before = numbers.get((cell, UNEDITED, *key))
    after = {name: numbers.get((cell, name, *key)) for name in candidates(study, numbers, cell)}
    return [name for name, number in after.items() if before and number and number.value >= before.value - KEPT]


def reaching(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that do what is asked in this table; none if the unedited model leaves nothing to do."""
    if not comparable(numbers, cell):
        return []
    rates, limit = candidates(study, numbers, cell), goal(numbers, cell)
    if cell.aim == "erase":
        return [name for name in keepers(study, numbers, cell) if rates[name].value <= limit]
    return [name for name, number in rates.items() if number.value >= limit]


def leader(study: Collected, numbers: Numbers, cell: Cell, among: Sequence[str] | None = None) -> str | None:
    """The method (of those named) that erases most of those that keep the rest, or of all if none does.

    If a word is taught, the one that draws its object most often. None without methods.
    """
    rates = candidates(study, numbers, cell)
    rates = {name: rate for name, rate in rates.items() if among is None or name in among}
    keep = [name for name in keepers(study, numbers, cell) if name in rates]
    if cell.aim == "learn":
        keep = [name for name in keep if _draws_the_rest(numbers, cell, name)]
        return max(keep or rates, key=lambda name: rates[name].value, default=None)
    return min(keep or rates, key=lambda name: rates[name].value, default=None)


def swept(study: Collected, cell: Cell) -> dict[str, list[str]]:
    """The methods of a table that were swept, each with its variants."""
    variants: dict[str, list[str]] = {}
    for name in study.methods(cell):
        if "@" in name:
            variants.setdefault(split(name)[0], []).append(name)
    return variants


def contestants(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that sentences and pictures are about: all, but of each sweep only its best variant."""
    leaders = [leader(study, numbers, cell, variants) for variants in swept(study, cell).values()]
    return [method for method in study.methods(cell) if "@" not in method or method in leaders]


def marks(study: Collected, numbers: Numbers, cell: Cell) -> dict[Column, str | None]:
    """The method that each column of a table marks: the one whose lead is real, None without one.

    Nothing is marked if the unedited model leaves nothing to do. A distance to it marks only a method that does what is
    asked, since doing nothing has the least.
    """
    shown = columns(study, numbers, cell)
    if not comparable(numbers, cell):
        return dict.fromkeys(shown)
    leads, good = {column: best(numbers, cell, column) for column in shown}, reaching(study, numbers, cell)
    return {column: lead if lead in good or not column.unedited else None for column, lead in leads.items()}


def best(numbers: Numbers, cell: Cell, column: Column) -> str | None:
    """The method that leads a column with an interval apart from every other's; None when the lead may be chance.

    The references are no candidates. A column with a single method, or whose numbers have no better side, has no best.
    """
    if not column.better:
        return None
    sign = 1 if column.better == "low" else -1
    rows = {
        method: number
        for (place, method, *key), number in numbers.items()
        if place == cell and method not in REFERENCES and key == [column.prompts, column.metric]
    }
    if len(rows) < 2:
        return None
    first = min(rows, key=lambda method: sign * rows[method].value)
    rest = [number for method, number in rows.items() if method != first]
    return first if all(_leads(rows[first], other, sign) for other in rest) else None


def _leads(first: Number, other: Number, sign: int) -> bool:
    return first.high < other.low if sign == 1 else first.low > other.high


def _draws_the_rest(numbers: Numbers, cell: Cell, method: str) -> bool:
    """Whether the concept's prompts still show the rest of what they ask for, as far as that is measured."""
    after, before = (numbers.get((cell, name, "concept", "other_rate")) for name in (method, UNEDITED))
    return not (after and before) or after.value >= before.value - ASKED
