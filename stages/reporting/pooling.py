"""A method's numbers pooled over its trainings, computed anew from each picture's outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf, nan
from typing import Any

from stages.reporting.collected import UNEDITED, Collected, Result
from stages.reporting.levels import Limits, Picture, Trained, means, rates, steps, together
from stages.reporting.numbers import Number, Numbers
from stages.store.pictures import read_metadata
from stages.store.samples import BEFORE

SUCCESSES = {"pre_asr": ("before",), "asr": ("before", "attack")}  # of attacks: shown in any of these outcomes


def pooled(study: Collected, *, seed: int = 0) -> Numbers:
    """Every number of a study, pooled over backbones of one architecture and the seeds of a method.

    `seed` draws the bootstrap. FileNotFoundError or ValueError names samples that are missing or that do not fit their
    outcomes.
    """
    return {
        (cell, method, prompts, metric): number
        for cell in study.cells()
        for method in study.methods(cell)
        for prompts, metric, number in _pooled(study, study.of(cell, method), seed)
    }


def _pooled(study: Collected, results: Sequence[Result], seed: int) -> Iterator[tuple[str, str, Number]]:
    rows = [row for result in results for row in result.rows if row["value"] is not None]
    for prompts, metric in dict.fromkeys((row["prompts"], row["metric"]) for row in rows):
        runs = trained(study, results, prompts, metric)
        same = [row for row in rows if (row["prompts"], row["metric"]) == (prompts, metric)]
        yield prompts, metric, pool(runs, metric, seed) if runs else _span(same)


def pool(runs: Sequence[Trained], metric: str, seed: int = 0) -> Number:
    """The number of a metric from the outcomes of its runs: a rate, a change of one, or a mean."""
    is_rate = metric.endswith("_rate") or metric in SUCCESSES
    leaf = rates if is_rate else steps if metric.endswith("_rate_change") else means
    limits: Limits = (0.0, 1.0) if is_rate else (-1.0, 1.0) if leaf is steps else (-inf, inf)
    return together(runs, leaf, limits=limits, seed=seed)


def _span(rows: Sequence[Mapping[str, Any]]) -> Number:
    """A number that pictures alone do not give, such as a distance: the span of its runs.

    A single number spans nothing: its interval is NaN.
    """
    n = sum(row["n"] for row in rows)
    mean = sum(row["value"] * row["n"] for row in rows) / n
    bounds = [row.get(key) for row in rows for key in ("value", "ci_low", "ci_high")]
    known = [bound for bound in bounds if bound is not None]
    return Number(mean, min(known), max(known), n) if len(known) > 1 else Number(mean, nan, nan, n)


def trained(study: Collected, results: Sequence[Result], prompts: str, metric: str) -> list[Trained]:
    """A metric's value on each picture of each run; for `x_change` minus the unedited model's.

    Empty when the metric is no mean over pictures (a Frechet distance) or a result has no unedited twin.
    """
    runs = []
    for result in results:
        values = on_pictures(result, prompts, metric.removesuffix("_change"))
        if metric.endswith("_change"):
            values = minus(values, twin(study, result, UNEDITED), prompts, metric.removesuffix("_change"))
        runs.append(Trained(result.backbone, result.seed, values))
    return runs if all(run.pictures for run in runs) else []


def twin(study: Collected, result: Result, method: str) -> Result | None:
    """Another method's run on the same backbone: of the same seed, or else its first."""
    same = [other for other in study.of(result.cell, method) if other.backbone == result.backbone]
    return next((other for other in same if other.seed == result.seed), same[0] if same else None)


def minus(values: Mapping[Picture, float], other: Result | None, prompts: str, metric: str) -> dict[Picture, float]:
    """The values less another run's on the same prompts and noise; what only one of them has is left out."""
    before = on_pictures(other, prompts, metric) if other else {}
    return {picture: value - before[picture] for picture, value in values.items() if picture in before}


def on_pictures(result: Result, prompts: str, metric: str) -> dict[Picture, float]:
    """The outcome behind a metric on each different picture of a run; what was not asked for is left out."""
    names = SUCCESSES.get(metric, (metric.removesuffix("_rate"),))
    columns = [outcome(result, prompts, name) for name in names]
    if not all(columns):
        return {}
    pictures: dict[Picture, float] = {}
    for picture, values in zip(_pictures(result, prompts, len(columns[0])), zip(*columns, strict=True), strict=True):
        asked = [value for value in values if value is not None]
        if len(asked) == len(values):
            pictures.setdefault(picture, max(asked))
    return pictures


def _pictures(result: Result, prompts: str, outcomes: int) -> list[Picture]:
    """Prompt and seed of each sample, equal ones of one picture; of an attack, the attacked prompt if it is known."""
    folder = result.pictures(prompts)
    rows = read_metadata(folder)
    if len(rows) != outcomes:
        raise ValueError(f"{folder}: {len(rows)} samples, but {outcomes} outcomes; measure it again")
    if (folder / BEFORE).is_dir():
        attacked = read_metadata(folder / BEFORE)
        if len(attacked) == len(rows):
            return [(str(start["prompt"]), place) for place, start in enumerate(attacked)]
    return [(str(row["prompt"]), int(row["seed"])) for row in rows]


def outcome(result: Result, prompts: str, name: str) -> Sequence[float | None]:
    """The outcome of each image of a result, in the order of its metadata: None if it was not asked for."""
    return result.outcomes.get(prompts, {}).get(name, [])
