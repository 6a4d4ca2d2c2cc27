"""The readable part of a table: the columns worth reading, and what a method cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.metrics.base import Column
from stages.params.datasets import SETS
from stages.reporting.collected import FILTER, Cell, Collected
from stages.reporting.numbers import Numbers, measured

RETAINED = (("retain", "joint_rate"), ("retain", "colour_rate"), ("retain", "shape_rate"))  # the strictest first

HELD_OUT = (("retain", "joint_near_rate"), ("retain", "joint_far_rate"))  # of prompts that no method was told to keep


def concept_rate(cell: Cell) -> tuple[str, str]:
    """The prompts and the metric that say how often the concept is seen."""
    return "concept", cell.seen


def retained_rate(numbers: Numbers, cell: Cell) -> tuple[str, str]:
    """The prompts and the metric that stand for retained prompts: the strictest of those measured."""
    keys = measured(numbers, cell)
    return next((key for key in RETAINED if key in keys), RETAINED[0])


def retained_rates(numbers: Numbers, cell: Cell) -> tuple[tuple[str, str], ...]:
    """The prompts and metrics that retained prompts have to be kept by, each: near and far if they are told apart."""
    keys = measured(numbers, cell)
    return tuple(key for key in HELD_OUT if key in keys) or (retained_rate(numbers, cell),)


def concept_column(cell: Cell) -> Column:
    """The first column: how often the concept is seen, which is the aim if a word is to be learned."""
    if cell.aim == "learn":
        return Column(*concept_rate(cell), "Concept drawn", "high")
    return Column(*concept_rate(cell), "Concept seen", "low")


def columns(study: Collected, numbers: Numbers, cell: Cell) -> list[Column]:
    """The columns that this table has numbers for: the concept's, those that metrics ask for, attacks."""
    keys = measured(numbers, cell)
    others = [column for column in study.columns if column.aim in ("", cell.aim)]
    attacks = sorted(prompts for prompts, metric in keys if metric == "attack_rate")
    rates = {name: "asr" if (name, "asr") in keys else "attack_rate" for name in attacks}
    back = [Column(name, rate, f"Back by {name.replace('_', ' ')}", "low") for name, rate in rates.items()]
    shown: dict[tuple[str, str], Column] = {}
    left = Column("concept", left_share(cell), "Left above the oracle", "low")
    for column in (*front(numbers, cell), left, *others, *by_sets(cell), *of_published(keys, cell), *back):
        shown.setdefault((column.prompts, column.metric), column)
    return [column for key, column in shown.items() if key in keys]


def front(numbers: Numbers, cell: Cell) -> list[Column]:
    """The columns of the main table: the concept, whether pictures are clear without it, the rest, the word filter."""
    head = "Rest kept" if cell.aim == "erase" else "Rest as before"
    against = Column("concept", f"{cell.seen}_less_{FILTER}", "Against the word filter", concept_column(cell).better)
    clear = [Column("concept", "coherent_rate", "Clear picture without it", "high")] if cell.aim == "erase" else []
    return [concept_column(cell), *clear, Column(*retained_rate(numbers, cell), head, "high"), against]


def left_share(cell: Cell) -> str:
    """The name of what is left of a concept, (rate - oracle) / (unedited - oracle)."""
    return f"{cell.seen.removesuffix('_rate')}_left_share"


def by_sets(cell: Cell) -> list[Column]:
    """How often the concept is seen where its word is another, alone, or not said, whatever metric sees it."""
    heads = {"synonym": "Seen by another word", "alone": "Seen if named alone", "implied": "Seen if implied"}
    return [Column(prompts, cell.seen, head, concept_column(cell).better) for prompts, head in heads.items()]


def of_published(keys: Iterable[tuple[str, str]], cell: Cell) -> list[Column]:
    """How often the concept is seen on each set of published prompts: those that no table of ours has."""
    sets = sorted({prompts for prompts, metric in keys if metric == cell.seen and prompts not in SETS})
    return [Column(prompts, cell.seen, f"Seen on {prompts}", concept_column(cell).better) for prompts in sets]


def is_rate(column: Column) -> bool:
    """Whether a column's numbers are shares."""
    return column.metric.endswith(("_rate", "_share")) or column.metric == "asr"


@dataclass(frozen=True)
class Cost:
    """The cost of fitting, without imports and loading, as the mean over seeds; None if no record tells."""

    seconds: float | None
    memory_mb: float | None  # peak of the process, or of the GPU
    parameters: int | None  # trained


def cost(study: Collected, cell: Cell, method: str) -> Cost:
    """The fitting cost of one method, read from the records of its training, or of the sampling that fitted it."""
    results = study.of(cell, method)
    training = [result.fit for result in results]
    notes = [
        record.get("notes") or {} for result in results for record in (result.fit, result.records.get("sample", {}))
    ]
    seconds = [record.get("phases", {}).get("work") for record in training]
    return Cost(
        _mean([*seconds, *(note.get("fit_seconds") for note in notes)]),
        _mean([record.get("peak_memory_mb") for record in training]),
        next((note["parameters"] for note in notes if "parameters" in note), None),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
