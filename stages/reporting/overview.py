"""Every method on every backbone at a glance: what is left of the concept, what is kept, and what the fit cost."""

from __future__ import annotations

from dataclasses import dataclass

from stages.reporting import wording
from stages.reporting.collect import REFERENCES, Cell, Collected
from stages.reporting.evidence import anchor
from stages.reporting.figures import Style, styles
from stages.reporting.summary import cost, erasure, preservation
from stages.reporting.tables import Numbers


@dataclass(frozen=True)
class Glance:
    """One method in one table; `reached` when it does what is asked of it there."""

    metric: str  # that of `seen`
    seen: str
    kept: str
    cost: str
    reached: bool
    anchor: str


@dataclass(frozen=True)
class Line:
    """One method in all tables, None where it was not run."""

    method: str
    style: Style
    reference: bool
    glances: tuple[Glance | None, ...]


@dataclass(frozen=True)
class Overview:
    """The matrix of methods and tables."""

    cells: tuple[Cell, ...]
    lines: tuple[Line, ...]


def overview(study: Collected, numbers: Numbers) -> Overview:
    """The matrix of a study, its methods in the order of the first table that has them, the oracle last."""
    cells = study.cells()
    found = dict.fromkeys(method for cell in cells for method in wording.contestants(study, numbers, cell))
    methods = sorted(found, key=lambda name: name == "oracle")
    drawn = styles(methods)
    reached = {cell: wording.reaching(study, numbers, cell) for cell in cells}
    lines = [
        Line(
            method,
            drawn[method],
            method in REFERENCES,
            tuple(_glance(study, numbers, cell, method, method in reached[cell]) for cell in cells),
        )
        for method in methods
    ]
    return Overview(tuple(cells), tuple(lines))


def _glance(study: Collected, numbers: Numbers, cell: Cell, method: str, reached: bool) -> Glance | None:
    seen = numbers.get((cell, method, *erasure(cell)))
    if seen is None:
        return None
    what = preservation(numbers, cell)
    kept, spent = numbers.get((cell, method, *what)), cost(study, cell, method)
    price = "" if spent.seconds is None else f"{spent.seconds:.0f} s"
    memory = "" if spent.memory_mb is None else f", {spent.memory_mb:,.0f} MB"
    return Glance(
        cell.seen,
        wording.written(seen.value, cell.seen),
        wording.written(kept.value, what[1]) if kept else "–",
        price + memory if price else "–",
        reached,
        anchor(cell, method),
    )


def matrix(study: Collected, numbers: Numbers) -> str:
    """The overview as Markdown: one table of effects, one of costs."""
    found = overview(study, numbers)
    head = ["method", *(f"{cell.concept} on {cell.backbone}" for cell in found.cells)]
    effects = [[line.method, *(_effect(glance) for glance in line.glances)] for line in found.lines]
    costs = [
        [line.method, *(glance.cost if glance else "" for glance in line.glances)]
        for line in found.lines
        if any(glance and glance.cost != "–" for glance in line.glances)
    ]
    rule = ["---", *("---:" for _ in found.cells)]
    written = ["| " + " | ".join(row) + " |" for row in (head, rule, *effects)]
    spent = ["| " + " | ".join(row) + " |" for row in (head, rule, *costs)]
    return "\n".join(
        [
            f"# Study {study.name} at a glance",
            "",
            f"Share of prompts that show the concept / share of retained prompts that are right. Bold: {wording.BARS}.",
            "",
            *written,
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
    return f"**{glance.seen}** / {glance.kept}" if glance.reached else f"{glance.seen} / {glance.kept}"
