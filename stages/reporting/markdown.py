"""The readable tables as Markdown, with the numbers in bold whose lead is real."""

from __future__ import annotations

from stages.metrics.base import Column
from stages.reporting.bars import comparable, verdict
from stages.reporting.collected import UNEDITED, Cell, Collected
from stages.reporting.evidence import departs
from stages.reporting.findings import cosines, findings
from stages.reporting.formats import interval, written
from stages.reporting.leaders import marks
from stages.reporting.machines import mixture
from stages.reporting.notes import notes
from stages.reporting.numbers import Numbers
from stages.reporting.summary import Cost, cost, front

ARROWS = {"low": " ↓", "high": " ↑", "": ""}


def markdown(study: Collected, numbers: Numbers, cell: Cell) -> str:
    """Two tables, a row per method: what a reader asks first with the verdict, then everything else.

    Pooled over trainings; 95% intervals in brackets, in parentheses the values of trainings too few for one.
    """
    leads = marks(study, numbers, cell)
    main = {(column.prompts, column.metric) for column in front(numbers, cell)}
    first, others = (
        [column for column in leads if ((column.prompts, column.metric) in main) == is_main]
        for is_main in (True, False)
    )
    rows = {
        method: {column: _entry(numbers, cell, method, column, leads[column]) for column in leads}
        for method in study.methods(cell)
    }
    kinds = {method: departs(study.of(cell, method)[0]) for method in rows}
    verdicts = {method: "" if method == UNEDITED else verdict(numbers, cell, method) for method in rows}
    lines = [
        f"# {cell.concept} on {cell.backbone} (study {study.name})",
        "",
        *_table(
            ["method", *map(_head, first), "verdict", "departs"],
            [
                [
                    method,
                    *(row[column] for column in first),
                    verdicts[method] or "–",
                    kinds[method],
                ]
                for method, row in rows.items()
            ],
        ),
        "",
        *_notes(study, numbers, cell),
        *([] if comparable(numbers, cell) else [f"\n{sentence}" for sentence in findings(study, numbers, cell)]),
        *(f"\n{sentence}" for sentence in cosines(numbers, cell)),
        "",
        *_table(
            ["method", *map(_head, others), "training", "peak memory", "parameters"],
            [
                [method, *(row[column] for column in others), *costs(cost(study, cell, method))]
                for method, row in rows.items()
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _head(column: Column) -> str:
    return f"{column.label}{ARROWS[column.better]}"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in header[1:])]
    return ["| " + " | ".join(line) + " |" for line in [header, rule, *rows]]


def _entry(numbers: Numbers, cell: Cell, method: str, column: Column, leads: tuple[str, ...]) -> str:
    number = numbers.get((cell, method, column.prompts, column.metric))
    if number is None:
        return "–"
    value, span = written(number.value, column.metric), interval(number, column.metric)
    around = "({})" if number.parts else "[{}]"
    return (f"**{value}**" if method in leads else value) + (f" {around.format(span)}" if span else "")


def costs(spent: Cost) -> list[str]:
    """Seconds, memory and parameters as text, a dash for an unknown one."""
    seconds = "–" if spent.seconds is None else f"{spent.seconds:.1f} s"
    memory = "–" if spent.memory_mb is None else f"{spent.memory_mb:,.0f} MB"
    return [seconds, memory, "–" if spent.parameters is None else f"{spent.parameters:,}"]


def _notes(study: Collected, numbers: Numbers, cell: Cell) -> list[str]:
    absent = study.absent(cell)
    said = [f"Not finished, and so not in this table: {', '.join(absent)}."] if absent else []
    caveats = [*study.caveats, *filter(None, [mixture(study, cell)])]
    paragraphs = [*notes(study, numbers, cell), *said, *(f"{caveat}." for caveat in caveats)]
    return "\n\n".join(paragraphs).split("\n")
