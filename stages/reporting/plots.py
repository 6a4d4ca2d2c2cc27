"""The figures of a study: which numbers go into which drawing."""

from __future__ import annotations

from matplotlib.figure import Figure

from stages.reporting.collected import Cell, Collected
from stages.reporting.figures import Panel, heat_maps, loss_curves, styles, tradeoff
from stages.reporting.leaders import contestants
from stages.reporting.numbers import Numbers, measured
from stages.reporting.summary import concept_rate, retained_rate
from stages.reporting.sweeps import Sweep

REST = ("concept", "other_rate")  # the rest of the concept's prompts
KEPT = {"joint_rate": "right", "colour_rate": "of the right colour", "shape_rate": "of the right shape"}


def tradeoff_figure(study: Collected, numbers: Numbers, cell: Cell) -> Figure | None:
    """Erasure against preservation for one table; None without both numbers, and if a word is taught."""
    if cell.aim == "learn":
        return None
    retained = retained_rate(numbers, cell)
    both = {
        method: (numbers.get((cell, method, *concept_rate(cell))), numbers.get((cell, method, *retained)))
        for method in contestants(study, numbers, cell)
    }
    points = {method: (seen, kept) for method, (seen, kept) in both.items() if seen and kept}
    return tradeoff(points, cell.concept, f"retained images {KEPT[retained[1]]}") if points else None


def curves_figure(study: Collected, numbers: Numbers, cell: Cell) -> Figure | None:
    """The loss curves of one table's methods; None when nothing was trained."""
    drawn, panels = styles(study.methods(cell)), []
    for method in contestants(study, numbers, cell):
        lines: dict[str, list] = {}
        for result in study.of(cell, method):
            for label, curve in result.fit.get("curves", {}).items():
                steps = [1 + curve["every"] * position for position in range(len(curve["loss"]))]
                lines.setdefault(label, []).append((steps, curve["loss"]))
        titles = {label: method if len(lines) == 1 else f"{method}: {label}" for label in lines}
        panels += [Panel(titles[label], drawn[method], curves) for label, curves in lines.items()]
    return loss_curves(panels) if panels else None


def sweep_figure(numbers: Numbers, cell: Cell, sweep: Sweep) -> Figure:
    """How often the concept is seen and how much else is right, for each pair of values of the two swept fields."""
    retained, there = retained_rate(numbers, cell), measured(numbers, cell)
    titles = {f"{cell.concept} seen, %": concept_rate(cell), "rest of its prompts, %": REST}
    titles |= {f"retained {KEPT[retained[1]]}, %": retained}
    panels = {title: sweep.rates(numbers, cell, key) for title, key in titles.items() if key in there}
    down, across = ([plain_value(value) for value in values] for values in (sweep.rows, sweep.columns))
    row, column = (name.replace("_", " ") for name in sweep.fields)
    return heat_maps(panels, down, across, row_label=row, column_label=column)


def plain_value(value: object) -> str:
    """A field's value on an axis: `0, 1` for a list, empty for None."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
