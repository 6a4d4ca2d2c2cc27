"""The readable tables as Markdown, with the number of a column in bold whose lead is real."""

from __future__ import annotations

from stages.metrics.base import Column
from stages.reporting.collect import Cell, Collected
from stages.reporting.evidence import departs
from stages.reporting.findings import cosines, findings
from stages.reporting.formats import counted, interval, written
from stages.reporting.leaders import comparable, marks
from stages.reporting.machines import mixture
from stages.reporting.numbers import Numbers
from stages.reporting.summary import Cost, cost

ARROWS = {"low": " ↓", "high": " ↑", "": ""}


def markdown(study: Collected, numbers: Numbers, cell: Cell) -> str:
    """One table: a row per method, pooled over seeds, with 95% intervals in brackets."""
    leads = marks(study, numbers, cell)
    header = [
        "method",
        *(f"{column.label}{ARROWS[column.better]}" for column in leads),
        "training",
        "peak memory",
        "parameters",
        "departs",
    ]
    rows = [
        [
            method,
            *(_entry(numbers, cell, method, column, lead) for column, lead in leads.items()),
            *costs(cost(study, cell, method)),
            departs(study.of(cell, method)[0]),
        ]
        for method in study.methods(cell)
    ]
    lines = [
        f"# {cell.concept} on {cell.backbone} (study {study.name})",
        "",
        *_table(header, rows),
        "",
        *_notes(study, cell),
        *([] if comparable(numbers, cell) else [f"\n{sentence}" for sentence in findings(study, numbers, cell)]),
        *(f"\n{sentence}" for sentence in cosines(numbers, cell)),
    ]
    return "\n".join(lines) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in header[1:])]
    return ["| " + " | ".join(line) + " |" for line in [header, rule, *rows]]


def _entry(numbers: Numbers, cell: Cell, method: str, column: Column, lead: str | None) -> str:
    number = numbers.get((cell, method, column.prompts, column.metric))
    if number is None:
        return "–"
    value, span = written(number.value, column.metric), interval(number, column.metric)
    return (f"**{value}**" if method == lead else value) + (f" [{span}]" if span else "")


def costs(spent: Cost) -> list[str]:
    """Seconds, memory and parameters as text, a dash for an unknown one."""
    seconds = "–" if spent.seconds is None else f"{spent.seconds:.1f} s"
    memory = "–" if spent.memory_mb is None else f"{spent.memory_mb:,.0f} MB"
    return [seconds, memory, "–" if spent.parameters is None else f"{spent.parameters:,}"]


def _notes(study: Collected, cell: Cell) -> list[str]:
    seeds = study.seeds(cell)
    notes = [
        f"Pooled over {counted(len(seeds), 'seed')}; in brackets the 95% interval: Wilson for rates (images of one "
        "prompt count less, the more alike they are), a bootstrap over seeds and prompts for means, the span of the "
        "seeds for distances. Bold: the interval lies apart from that of every other method (the references none and "
        "oracle aside); a distance to the unedited model only for a method that does what is asked, since doing "
        "nothing has the least. Training, memory and parameters: mean over seeds. Departs: what makes "
        "a run another kind of method than its file's, which is the paper's."
    ]
    absent = [name for name in study.missing if name.startswith(f"{cell.backbone}/{cell.concept}/")]
    notes += [f"\nNot finished, and so not in this table: {', '.join(absent)}."] if absent else []
    said = [*study.caveats, *filter(None, [mixture(study, cell)])]
    return [*notes, *(f"\n{caveat}." for caveat in said)]
