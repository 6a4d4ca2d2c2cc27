"""The study's numbers as tidy rows: each run's own, and pooled over the seeds of a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import pandas as pd
import torch

from stages.metrics.intervals import effective_samples, wilson
from stages.metrics.rates import number_prompts
from stages.reporting.collect import UNEDITED, Cell, Collected, Result
from stages.reporting.images import read_samples
from stages.reporting.pooling import hierarchical

COLUMNS = (
    "study",
    "backbone",
    "family",
    "concept",
    "method",
    "seed",
    "prompts",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
)
POOLED = "all"


@dataclass(frozen=True)
class Number:
    """A measured value with its interval and the images (of what training watched, the prompts) it rests on."""

    value: float
    low: float
    high: float
    n: int


ByPrompt = Mapping[str, Sequence[float]]  # the values of each prompt's images
Numbers = dict[tuple[Cell, str, str, str], Number]  # (cell, method, prompts, metric) -> pooled over seeds


def results(study: Collected, *, seed: int = 0) -> pd.DataFrame:
    """One row per measured number: each run's own, then those pooled over the seeds of a method (seed "all")."""
    rows = [_row(study, result, str(result.seed), row) for result in study.results for row in result.rows]
    for cell in study.cells():
        for method in study.methods(cell):
            rows.extend(_pooled(study, study.of(cell, method), seed))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def pooled(frame: pd.DataFrame) -> Numbers:
    """The pooled rows of `results`, by what they measure."""
    rows = frame[frame["seed"] == POOLED]
    return {
        (Cell(row.backbone, row.concept), row.method, row.prompts, row.metric): Number(
            row.value, row.ci_low, row.ci_high, int(row.n)
        )
        for row in rows.itertuples()
    }


def _row(study: Collected, result: Result, seed: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    cell = result.cell
    where = (study.name, cell.backbone, study.families[cell.backbone], cell.concept, result.method, seed)
    return (*where, *(row.get(name) for name in COLUMNS[len(where) :]))


def _pooled(study: Collected, same: Sequence[Result], seed: int) -> Iterator[tuple[Any, ...]]:
    rows = [row for result in same for row in result.rows if row["value"] is not None]
    for prompts, metric in dict.fromkeys((row["prompts"], row["metric"]) for row in rows):
        those = [row for row in rows if (row["prompts"], row["metric"]) == (prompts, metric)]
        value, low, high = _pool(those, metric, per_prompt(study, same, prompts, metric), seed)
        pooled = {"prompts": prompts, "metric": metric, "value": value, "ci_low": low, "ci_high": high}
        yield _row(study, same[0], POOLED, pooled | {"n": sum(row["n"] for row in those)})


def _pool(
    rows: Sequence[Mapping[str, Any]], metric: str, seeds: Sequence[ByPrompt], seed: int
) -> tuple[float, float, float]:
    """A rate by its pooled count, a mean over images by the bootstrap, anything else by the span of its seeds.

    A prompt's images of all seeds are one group. A single number spans nothing: its interval is NaN.
    """
    n = sum(row["n"] for row in rows)
    mean = sum(row["value"] * row["n"] for row in rows) / n
    if metric.endswith("_rate"):
        return mean, *wilson(round(mean * n), n, effective=_effective(seeds))
    if seeds:
        return mean, *hierarchical([list(prompts.values()) for prompts in seeds], seed=seed)
    bounds = [row.get(key) for row in rows for key in ("value", "ci_low", "ci_high")]
    known = [bound for bound in bounds if bound is not None]
    return (mean, min(known), max(known)) if len(known) > 1 else (mean, nan, nan)


def _effective(seeds: Sequence[ByPrompt]) -> float | None:
    """How many independent images all those of a rate are worth; None where single images are not known."""
    images = [(name, value) for prompts in seeds for name, values in prompts.items() for value in values]
    if not images:
        return None
    names, values = zip(*images, strict=True)
    return effective_samples(torch.tensor(values), number_prompts(names))


def per_prompt(study: Collected, same: Sequence[Result], prompts: str, metric: str) -> list[ByPrompt]:
    """A metric's values on the images of each prompt, a mapping per seed; for `x_change` minus the unedited model's.

    Empty when the metric is no mean over images (a Frechet distance) or a result has no unedited twin.
    """
    name = metric.removesuffix("_change").removesuffix("_rate")
    twins = {result.seed: outcome(result, prompts, name) for result in study.of(same[0].cell, UNEDITED)}
    groups = []
    for result in same:
        own = outcome(result, prompts, name)
        if metric.endswith("_change"):
            pairs = zip(own, twins.get(result.seed, []), strict=False)
            own = [None if None in pair else pair[0] - pair[1] for pair in pairs]
        samples = read_samples(result.samples / prompts) if own else []
        by_prompt: dict[str, list[float]] = {}
        counted: set[tuple[str, int]] = set()  # one picture counts once
        for sample, value in zip(samples, own, strict=False):
            if value is not None and (sample.prompt, sample.seed) not in counted:
                by_prompt.setdefault(sample.prompt, []).append(value)
                counted.add((sample.prompt, sample.seed))
        groups.append(by_prompt)
    return groups if all(groups) else []


def outcome(result: Result, prompts: str, name: str) -> Sequence[float | None]:
    """What was judged on each image of a result, in the order of its metadata: None where nothing was asked for."""
    return result.outcomes.get(prompts, {}).get(name, [])
