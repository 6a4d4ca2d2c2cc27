"""Every method on every backbone at a glance: the concept left, the prompts retained, the cost of the fit."""

from __future__ import annotations

from dataclasses import dataclass

from stages.reporting.collected import CONTROLS, ORACLE, REFERENCES, Cell, Collected
from stages.reporting.evidence import anchor
from stages.reporting.figures import Style, styles
from stages.reporting.findings import BARS
from stages.reporting.formats import written
from stages.reporting.leaders import contestants, reaching
from stages.reporting.numbers import Numbers
from stages.reporting.summary import concept_rate, cost, retained_rate
from stages.reporting.tables import versions


@dataclass(frozen=True)
class Glance:
    """One method in one table."""

    metric: str  # of `shown`
    shown: str  # share of prompts that show the concept
    retained: str  # share of retained prompts that are right
    cost: str  # seconds and memory of the fit
    reached: bool  # whether it does what is asked
    anchor: str  # the page address of its evidence


@dataclass(frozen=True)
class Line:
    """One method in all tables."""

    method: str
    style: Style
    reference: bool  # the unedited model, the oracle, or what costs nothing
    glances: tuple[Glance | None, ...]  # of each table, None if it was not run there


@dataclass(frozen=True)
class Overview:
    """The matrix of methods and tables."""

    cells: tuple[Cell, ...]
    lines: tuple[Line, ...]


def overview(study: Collected, numbers: Numbers) -> Overview:
    """The matrix of a study, its methods in the order of the first table that has them, the oracle last."""
    cells = study.cells()
    names = dict.fromkeys(method for cell in cells for method in contestants(study, numbers, cell))
    methods = sorted(names, key=lambda name: name == ORACLE)
    drawn = styles(methods)
    reached = {cell: reaching(study, numbers, cell) for cell in cells}
    lines = [
        Line(
            method,
            drawn[method],
            method in (*REFERENCES, *CONTROLS),
            tuple(_glance(study, numbers, cell, method, method in reached[cell]) for cell in cells),
        )
        for method in methods
    ]
    return Overview(tuple(cells), tuple(lines))


def _glance(study: Collected, numbers: Numbers, cell: Cell, method: str, reached: bool) -> Glance | None:
    shown = numbers.get((cell, method, *concept_rate(cell)))
    if shown is None:
        return None
    key = retained_rate(numbers, cell)
    retained, spent = numbers.get((cell, method, *key)), cost(study, cell, method)
    price = "" if spent.seconds is None else f"{spent.seconds:.0f} s"
    memory = "" if spent.memory_mb is None else f", {spent.memory_mb:,.0f} MB"
    return Glance(
        cell.seen,
        written(shown.value, cell.seen),
        written(retained.value, key[1]) if retained else "–",
        price + memory if price else "–",
        reached,
        anchor(cell, method),
    )


def matrix(study: Collected, numbers: Numbers) -> str:
    """The overview as Markdown: one table of effects, one of costs."""
    table = overview(study, numbers)
    head = ["method", *(f"{cell.concept} on {cell.backbone}" for cell in table.cells)]
    effects = [[line.method, *(_effect(glance) for glance in line.glances)] for line in table.lines]
    costs = [
        [line.method, *(glance.cost if glance else "" for glance in line.glances)]
        for line in table.lines
        if any(glance and glance.cost != "–" for glance in line.glances)
    ]
    rule = ["---", *("---:" for _ in table.cells)]
    shares = ["| " + " | ".join(row) + " |" for row in (head, rule, *effects)]
    spent = ["| " + " | ".join(row) + " |" for row in (head, rule, *costs)]
    return "\n".join(
        [
            f"# Study {study.name} at a glance",
            "",
            f"Share of prompts that show the concept / share of retained prompts that are right. Bold: {BARS}.",
            f"Protocol: {versions(study.results)}.",
            "",
            *shares,
            "",
            "Seconds of fitting (without imports and loading) and peak memory of the process, mean over seeds:",
            "",
            *spent,
            "",
        ]
    )


def _effect(glance: Glance | None) -> str:
    if glance is None:
        return ""
    return f"**{glance.shown}** / {glance.retained}" if glance.reached else f"{glance.shown} / {glance.retained}"
