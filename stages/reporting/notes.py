"""What a reader of a table has to know, in sentences under it."""

from __future__ import annotations

from stages.reporting.bars import ERASED, KEPT, LEARNED, comparable, goal
from stages.reporting.claims import smallest_effect
from stages.reporting.collected import ORACLE, UNEDITED, Cell, Collected
from stages.reporting.formats import counted, interval, listed, percent, written
from stages.reporting.numbers import Numbers
from stages.reporting.summary import concept_rate, retained_rates


def notes(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    """The sentences: how numbers are pooled, what is marked, what the verdict means, what could have been found."""
    said = [pooling(study, cell), marking(), bar(numbers, cell) if comparable(numbers, cell) else ""]
    said.append(floors(study, numbers, cell))
    effect = smallest_effect(numbers, cell)
    if effect is not None:
        said.append(
            f"Smallest effect: a difference of {100 * effect:.0f} points between two methods is found in four of five "
            "studies of this size, before the adjustment for many claims."
        )
    return [sentence for sentence in said if sentence]


def pooling(study: Collected, cell: Cell) -> str:
    """Of how many trainings the numbers are, and what their intervals hold for."""
    backbones, seeds = len(study.backbones(cell)), len(study.seeds(cell))
    of = listed([counted(backbones, "backbone"), *([counted(seeds, "seed")] if seeds > 1 else [])])
    return (
        f"Numbers of {of}. In brackets the 95% interval over prompts and noise, pictures of one prompt counting less "
        "the more alike they are, and over backbones or trainings if there are three or more. In parentheses the "
        "values of trainings that are too few for an interval, side by side. One training says nothing of another."
    )


def marking() -> str:
    """What bold stands for."""
    return (
        "Bold: of how often the concept is seen, the best method and all that cannot be told from it (Tango's paired "
        "score test, Holm over all pairs of methods); elsewhere the method whose interval lies apart from every "
        "other's; a distance to the unedited model only for a method that does what is asked, since doing nothing has "
        "the least. References are not marked."
    )


def floors(study: Collected, numbers: Numbers, cell: Cell) -> str:
    """How often each judge sees the concept where nobody asks for it: on the unedited model's retained prompts."""
    known = {name: numbers.get((cell, UNEDITED, "retain", name)) for name in study.judges}
    parts = []
    for name, number in known.items():
        if number:
            span = interval(number, name)
            bounds = f" ({span})" if span else ""
            parts.append(f"{name.removesuffix('_rate')} {written(number.value, name)}{bounds} of {number.n}")
    if not parts:
        return ""
    return (
        f"False positives, on retained prompts of the unedited model: {'; '.join(parts)}. "
        "A rate near that of its judge is no sign of the concept."
    )


def bar(numbers: Numbers, cell: Cell) -> str:
    """What the verdict asks for."""
    if cell.aim != "erase":
        return f"Verdict: learned if the concept's interval lies above {percent(LEARNED)}."
    limit = percent(goal(numbers, cell))
    if (cell, ORACLE, *concept_rate(cell)) in numbers:
        rule = f"at most {percent(ERASED)} of what there was to erase, (rate - oracle) / (unedited - oracle): {limit}"
    elif cell.chance is not None:
        what = "chance" if goal(numbers, cell) == cell.chance else "half of what the unedited model shows"
        rule = f"at most {what}, {limit}, for want of an oracle"
    else:
        rule = f"at most {percent(ERASED)} of what the unedited model shows, {limit}, as there is no oracle"
    apart = len(retained_rates(numbers, cell)) > 1
    rest = "those near the concept and those far from it each lose" if apart else "the retained prompts lose"
    return (
        f"Verdict: erased if the whole interval is {rule}; kept if by their paired interval {rest} "
        f"at most {100 * KEPT:.0f} points; open if the interval reaches over the bar."
    )
