"""What a judge sees in a backbone's pictures of prompts with labels: the figures of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stages.metrics.base import rate
from stages.metrics.intervals import number_prompts
from stages.params.datasets import labels, read_prompts
from stages.seeds import Purpose, hashed
from stages.store.samples import Row, Sampler, draw
from stages.worlds.by_name import Judge


def rows_of(table: str, n: int) -> tuple[list[Row], list[str]]:
    """n rows of a prompt table, spread evenly, each with noise of its own, and the names of its labels.

    Only rows whose `split` is test, if the table has one.
    """
    frame = read_prompts(table)
    if "split" in frame:
        frame = frame[frame["split"] == "test"]
    records = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    chosen = [(i, records[i * len(records) // n if n < len(records) else i % len(records)]) for i in range(n)]
    return [row | {"seed": hashed(Purpose.PICTURE, "figures", i)} for i, row in chosen], labels(frame)


def figures(backbone: Sampler, judge: Judge, rows: Sequence[Row], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """A figure per kind of label that the judge knows: the share of pictures that show what the prompt names.

    Each has kind, rate, low and high of its 95 % interval, and n. Rows that leave a kind open do not count for it.
    """
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    size = backbone.settings.batch
    for start in range(0, len(rows), size):
        verdict = judge.look(draw(backbone, list(rows[start : start + size])))
        known = set(verdict.labels())
        for kind in kinds:
            found[kind] += verdict.named(kind) if kind in known else []
    return [_figure(kind, names, rows) for kind, names in found.items() if names and any(row[kind] for row in rows)]


def _figure(kind: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    asked = [str(row[kind]) for row in rows]
    right = [float(name == wanted) if wanted else torch.nan for name, wanted in zip(names, asked, strict=True)]
    value = rate(torch.tensor(right), number_prompts([str(row["prompt"]) for row in rows]))
    return {"kind": kind, "rate": value.value, "low": value.ci_low, "high": value.ci_high, "n": value.n}
