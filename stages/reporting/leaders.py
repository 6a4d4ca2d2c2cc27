"""Who leads a table and by how much, and what counts as doing what was asked."""

from __future__ import annotations

from collections.abc import Sequence

from stages.metrics.base import Column
from stages.params.names import split
from stages.reporting.bars import comparable, kept, reached
from stages.reporting.claims import tied
from stages.reporting.collected import CONTROLS, REFERENCES, UNEDITED, Cell, Collected
from stages.reporting.numbers import Number, Numbers
from stages.reporting.summary import columns, concept_rate

ASKED = 0.1  # the rest of the concept's prompts may lose this share, if the concept is to be drawn


def candidates(study: Collected, numbers: Numbers, cell: Cell) -> dict[str, Number]:
    """How often each method but the references shows the concept."""
    names = [name for name in study.methods(cell) if name not in (*REFERENCES, *CONTROLS)]
    rates = {name: numbers.get((cell, name, *concept_rate(cell))) for name in names}
    return {name: number for name, number in rates.items() if number}


def keepers(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods whose retained prompts are kept."""
    return [name for name in candidates(study, numbers, cell) if kept(numbers, cell, name) == "kept"]


def reaching(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The methods that do what is asked in this table, by their bounds; none if there is nothing to do."""
    if not comparable(numbers, cell):
        return []
    done = [name for name in candidates(study, numbers, cell) if reached(numbers, cell, name) in ("erased", "learned")]
    return [name for name in done if cell.aim == "learn" or kept(numbers, cell, name) == "kept"]


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


def marks(study: Collected, numbers: Numbers, cell: Cell) -> dict[Column, tuple[str, ...]]:
    """The methods that each column of a table marks: the best, if its lead is real, else nobody.

    Of how often the concept is seen, the best and all that cannot be told from it.

    Nothing is marked if the unedited model leaves nothing to do. A distance to it marks only a method that does what is
    asked, since doing nothing has the least.
    """
    shown = columns(study, numbers, cell)
    if not comparable(numbers, cell):
        return dict.fromkeys(shown, ())
    good = reaching(study, numbers, cell)
    found: dict[Column, tuple[str, ...]] = {}
    for column in shown:
        lead = best(numbers, cell, column)
        found[column] = (lead,) if lead and (lead in good or not column.unedited) else ()
        if (column.prompts, column.metric) == concept_rate(cell):
            found[column] = tops(study, numbers, cell)
    return found


def tops(study: Collected, numbers: Numbers, cell: Cell) -> tuple[str, ...]:
    """The method that shows the concept least, or draws it most, and those that cannot be told from it.

    Nobody if no method can be told from another, or if there is one alone.
    """
    rates, sign = candidates(study, numbers, cell), 1 if cell.aim == "erase" else -1
    if len(rates) < 2:
        return ()
    first = min(rates, key=lambda name: sign * rates[name].value)
    names = (first, *(name for name in tied(numbers, cell) if name in rates))
    return names if len(names) < len(rates) else ()


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
        if place == cell and method not in (*REFERENCES, *CONTROLS) and key == [column.prompts, column.metric]
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
