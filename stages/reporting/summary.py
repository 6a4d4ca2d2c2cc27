"""What a table shows a reader: the columns worth reading, which lead is real, what a method cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from stages.reporting.collect import REFERENCES, Cell, Collected
from stages.reporting.tables import Number, Numbers


@dataclass(frozen=True)
class Column:
    """One measured column of the readable tables; `better` says which way its number improves."""

    prompts: str
    metric: str
    label: str
    better: str  # "low", "high"

    @property
    def rate(self) -> bool:
        return self.metric.endswith("_rate")


SAFE = Column("concept", "coherent_rate", "Safe and coherent", "high")  # no aim where a word is to be learned
COLUMNS = (  # behind the concept's own
    Column("concept", "other_rate", "Rest of the prompt", "high"),
    SAFE,
    Column("neutral", "joint_rate", "Neutral twins", "high"),
    Column("neutral", "broken_rate", "Neutral twins broken", "low"),
    Column("retain", "colour_rate", "Retained colour", "high"),
    Column("retain", "shape_rate", "Retained shape", "high"),
    Column("retain", "direction_rate", "Retained motion", "high"),
    Column("retain", "class_rate", "Retained things", "high"),
    Column("retain", "clip_score", "CLIP score", "high"),
    Column("retain", "frechet_unedited", "Fréchet to unedited", "low"),
    Column("retain", "pixel_drift", "Pixel drift", "low"),
)
PRESERVATION = (("retain", "joint_rate"), ("retain", "colour_rate"), ("retain", "shape_rate"))


def erasure(cell: Cell) -> tuple[str, str]:
    """The prompts and the metric that say how often the concept is seen."""
    return "concept", cell.seen


def concept_column(cell: Cell) -> Column:
    """The first column: how often the concept is seen, which is the aim where a word is to be learned."""
    named = ("Concept drawn", "high") if cell.aim == "learn" else ("Concept seen", "low")
    return Column(*erasure(cell), *named)


def columns(numbers: Numbers, cell: Cell) -> list[Column]:
    """The columns that this table has numbers for."""
    have = {key[2:] for key in numbers if key[0] == cell}
    shown = [concept_column(cell), *(column for column in COLUMNS if column != SAFE or cell.aim == "erase")]
    attacks = sorted(prompts for prompts, metric in have if metric == "attack_rate")
    back = [Column(name, "attack_rate", f"Back by {name.replace('_', ' ')}", "low") for name in attacks]
    return [*(column for column in shown if (column.prompts, column.metric) in have), *back]


def preservation(numbers: Numbers, cell: Cell) -> tuple[str, str]:
    """The prompts and the metric that stand for what must be kept: the strictest of those measured."""
    have = {key[2:] for key in numbers if key[0] == cell}
    return next((key for key in PRESERVATION if key in have), PRESERVATION[0])


def best(numbers: Numbers, cell: Cell, column: Column) -> str | None:
    """The method that leads a column with an interval apart from every other's; None when the lead may be chance.

    The references are no candidates, and a column with a single method has no best.
    """
    sign = 1 if column.better == "low" else -1
    rows = {
        method: number
        for (where, method, *what), number in numbers.items()
        if where == cell and method not in REFERENCES and what == [column.prompts, column.metric]
    }
    if len(rows) < 2:
        return None
    leader = min(rows, key=lambda method: sign * rows[method].value)
    rest = [number for method, number in rows.items() if method != leader]
    return leader if all(_apart(rows[leader], other, sign) for other in rest) else None


def _apart(leader: Number, other: Number, sign: int) -> bool:
    return leader.high < other.low if sign == 1 else leader.low > other.high


@dataclass(frozen=True)
class Cost:
    """What fitting took, without imports and loading, as the mean over seeds; None where no record tells."""

    seconds: float | None
    memory_mb: float | None
    parameters: int | None


def cost(study: Collected, cell: Cell, method: str) -> Cost:
    """The fitting cost of one method, read from the records of its training, or of the sampling that fitted it."""
    results = study.of(cell, method)
    training = [result.fitting for result in results]
    records = [record for result in results for record in (result.fitting, result.records.get("sample", {}))]
    notes = [record.get("notes") or {} for record in records]
    seconds = [record.get("phases", {}).get("work") for record in training]
    return Cost(
        _mean([*seconds, *(note.get("fit_seconds") for note in notes)]),
        _mean([record.get("peak_memory_mb") for record in training]),
        next((note["parameters"] for note in notes if "parameters" in note), None),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def tradeoff(study: Collected, numbers: Numbers) -> pd.DataFrame:
    """Erasure (share of concept prompts without the concept) against preservation, one row per method, for plots."""
    rows = []
    for cell in (cell for cell in study.cells() if cell.aim == "erase"):
        for method in study.methods(cell):
            seen, kept = (numbers.get((cell, method, *key)) for key in (erasure(cell), preservation(numbers, cell)))
            if seen and kept:
                erased = {"erasure": 1 - seen.value, "erasure_low": 1 - seen.high, "erasure_high": 1 - seen.low}
                keeps = {"preservation": kept.value, "preservation_low": kept.low, "preservation_high": kept.high}
                rows.append({"backbone": cell.backbone, "concept": cell.concept, "method": method} | erased | keeps)
    spans = [f"{name}{end}" for name in ("erasure", "preservation") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["backbone", "concept", "method", *spans])


def flat(study: Collected, numbers: Numbers) -> dict[str, float]:
    """How much of the concept is left and how much else is kept, under dotted names, for `dvc metrics`."""
    found = {}
    for cell in study.cells():
        for method in study.methods(cell):
            for prompts, metric in (erasure(cell), preservation(numbers, cell)):
                if number := numbers.get((cell, method, prompts, metric)):
                    found[f"{cell.backbone}.{cell.concept}.{method}.{prompts}_{metric}"] = round(number.value, 6)
    return found
