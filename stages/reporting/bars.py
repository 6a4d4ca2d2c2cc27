"""What counts as done: bars that are corrected for chance, and reached by an interval's bound, never by its point."""

from __future__ import annotations

from stages.reporting.collected import ORACLE, UNEDITED, Cell
from stages.reporting.numbers import Number, Numbers
from stages.reporting.summary import concept_rate, retained_rates

FLOOR = 0.1  # an unedited model that shows the concept in less than this share of its prompts leaves nothing to erase
ERASED = 0.25  # of what there was to erase, an erased concept has at most this share left
KEPT = 0.05  # margin of non-inferiority: retained prompts may lose at most this share
LEARNED = 0.7  # a new word's object seen in at least this share of its prompts counts as learned
OPEN = "open"  # the interval reaches over the bar: more prompts or trainings would tell


def comparable(numbers: Numbers, cell: Cell) -> bool:
    """Whether the unedited model leaves anything to do: a concept that it shows, or a word that it does not know yet.

    True if its rate was not measured.
    """
    before = numbers.get((cell, UNEDITED, *concept_rate(cell)))
    if before is None:
        return True
    return before.value >= FLOOR if cell.aim == "erase" else before.value < LEARNED


def floor(numbers: Numbers, cell: Cell) -> float:
    """The rate of a perfect erasure: the oracle's, or 0 if there is none."""
    oracle = numbers.get((cell, ORACLE, *concept_rate(cell)))
    return oracle.value if oracle else 0.0


def goal(numbers: Numbers, cell: Cell) -> float:
    """The share of its prompts that may still show a concept, or in which a word's object has to be drawn.

    With an oracle what it shows and `ERASED` of the rest. Without one the share that chance alone gives, if the
    protocol declares it, and at most half of what the unedited model shows; else `ERASED` of that.
    """
    if cell.aim != "erase":
        return LEARNED
    before = numbers.get((cell, UNEDITED, *concept_rate(cell)))
    top = before.value if before else 1.0
    if (cell, ORACLE, *concept_rate(cell)) not in numbers and cell.chance is not None:
        return min(cell.chance, top / 2)
    bottom = floor(numbers, cell)
    return bottom + ERASED * max(top - bottom, 0.0)


def corrected(numbers: Numbers, cell: Cell, method: str) -> Number | None:
    """(rate - oracle) / (unedited - oracle), the share of the concept that is left, with its interval.

    The interval is that of all shares c for which 0 is among rate - (1 - c) oracle - c unedited, each with its own
    bounds (the square-and-add rule of Zou and Donner 2008). None without an oracle, or if it shows no less.
    """
    key = concept_rate(cell)
    rates = [numbers.get((cell, name, *key)) for name in (method, ORACLE, UNEDITED)]
    rate, oracle, before = rates
    if rate is None or oracle is None or before is None or before.low <= oracle.high:
        return None
    value = (rate.value - oracle.value) / (before.value - oracle.value)
    low, high = (_crossing(rate, oracle, before, sign) for sign in (1, -1))
    return Number(value, low, high, rate.n)


def _crossing(rate: Number, oracle: Number, before: Number, sign: int) -> float:
    """The least share (sign 1) or the largest (-1) at which the contrast may be 0."""

    def possible(c: float) -> bool:
        gap = rate.value - (1 - c) * oracle.value - c * before.value
        terms = ((1.0, rate), (-(1 - c), oracle), (-c, before))
        reach = sum(_side(weight, number, gap > 0) ** 2 for weight, number in terms) ** 0.5
        return abs(gap) <= reach

    inside = (rate.value - oracle.value) / (before.value - oracle.value)
    outside = inside - sign * 2
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if possible(middle) else (inside, middle)
    return (inside + outside) / 2


def _side(weight: float, number: Number, positive: bool) -> float:
    """How far a term of the contrast may reach towards 0 from its value."""
    down = (weight > 0) == positive
    return abs(weight) * ((number.value - number.low) if down else (number.high - number.value))


def reached(numbers: Numbers, cell: Cell, method: str) -> str:
    """`erased` (or `learned`), `not erased`, or `open`; empty if the rate was not measured."""
    rate, verb = numbers.get((cell, method, *concept_rate(cell))), "erased" if cell.aim == "erase" else "learned"
    if rate is None:
        return ""
    if cell.aim != "erase":
        return verb if rate.low >= LEARNED else f"not {verb}" if rate.high < LEARNED else OPEN
    left = corrected(numbers, cell, method)
    low, high, limit = (left.low, left.high, ERASED) if left else (rate.low, rate.high, goal(numbers, cell))
    return verb if high <= limit else f"not {verb}" if low > limit else OPEN


def kept(numbers: Numbers, cell: Cell, method: str) -> str:
    """`kept` if retained prompts lose less than the margin by the interval's bound, `lost` if more, or `open`.

    Prompts that are held out are taken apart, near the concept and far from it: kept if both are, lost if one is. If
    none is told apart, all retained ones are one. By the paired change to the unedited model; if that was not measured,
    by the method's own interval. Empty without numbers.
    """
    changes = [_change(numbers, cell, method, key) for key in retained_rates(numbers, cell)]
    words = {_by_margin(change) for change in changes if change is not None}
    return next((word for word in ("lost", OPEN, "kept") if word in words), "")


def _by_margin(change: Number) -> str:
    return "kept" if change.low >= -KEPT else "lost" if change.high < -KEPT else OPEN


def _change(numbers: Numbers, cell: Cell, method: str, key: tuple[str, str]) -> Number | None:
    """How a rate of retained prompts differs from the unedited model's; None if it was not measured."""
    prompts, metric = key
    change = numbers.get((cell, method, prompts, f"{metric}_change"))
    if change is not None:
        return change
    after, before = (numbers.get((cell, name, prompts, metric)) for name in (method, UNEDITED))
    if after is None or before is None:
        return None
    return Number(after.value - before.value, after.low - before.value, after.high - before.value, after.n)


def verdict(numbers: Numbers, cell: Cell, method: str) -> str:
    """A row's verdict in words, such as `erased, rest kept`; empty if there is nothing to compare."""
    if not comparable(numbers, cell) or not (done := reached(numbers, cell, method)):
        return ""
    if done == OPEN:
        done = "erasing open" if cell.aim == "erase" else "learning open"
    rest = kept(numbers, cell, method)
    return f"{done}, rest {rest}" if rest else done
