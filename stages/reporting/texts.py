"""The files of tables/: what a report writes, and what is derived again when a table is verified."""

from __future__ import annotations

import json

import pandas as pd

from stages.reporting.claims import claims
from stages.reporting.collected import Collected
from stages.reporting.markdown import markdown
from stages.reporting.numbers import Numbers
from stages.reporting.overview import matrix
from stages.reporting.pooling import pooled
from stages.reporting.tables import flat, tradeoff

DIGITS = "%.6g"  # enough for any number here, and the same text on every machine


def all_numbers(study: Collected) -> Numbers:
    """Every number of a study's tables; errors as of `pooled`."""
    numbers = pooled(study)
    return numbers | claims(study, numbers)


def table_texts(study: Collected, frame: pd.DataFrame, numbers: Numbers) -> dict[str, str]:
    """File name -> text of `results` as CSV, tradeoff.csv (`dvc plots`), summary.json (`dvc metrics`), and Markdown."""
    tables = {"results.csv": frame, "tradeoff.csv": tradeoff(study, numbers)}
    texts = {
        name: table.to_csv(index=False, float_format=DIGITS, lineterminator="\n") for name, table in tables.items()
    }
    texts[f"{study.name}.md"] = matrix(study, numbers)
    texts |= {f"{study.name}-{cell}.md": markdown(study, numbers, cell) for cell in study.cells()}
    return texts | {"summary.json": json.dumps(flat(study, numbers), indent=1, sort_keys=True) + "\n"}
