"""A method's numbers pooled over its seeds, each with several images of several prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor

from stages.metrics.intervals import effective_samples, number_prompts, percentiles, resamples, wilson
from stages.reporting.collect import UNEDITED, Collected, Result
from stages.reporting.numbers import ByPrompt, Number, Numbers
from stages.store.pictures import read_metadata

DRAWS = 2000  # resamples of a bootstrap
Picture = tuple[str, int]  # prompt and seed of the noise


def pooled(study: Collected, *, seed: int = 0) -> Numbers:
    """Every number of a study, pooled over the seeds of a method; `seed` draws the bootstrap.

    FileNotFoundError or ValueError names samples that are missing or that do not fit their outcomes.
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
        same = [row for row in rows if (row["prompts"], row["metric"]) == (prompts, metric)]
        yield prompts, metric, _pool(same, metric, per_picture(study, results, prompts, metric), seed)


def _pool(rows: Sequence[Mapping[str, Any]], metric: str, runs: Sequence[Mapping[Picture, float]], seed: int) -> Number:
    """A rate by its pooled count, a mean over images by the bootstrap, anything else by the span of its seeds.

    A prompt's images of all seeds are one group. A single number spans nothing: its interval is NaN.
    """
    n = sum(row["n"] for row in rows)
    mean = sum(row["value"] * row["n"] for row in rows) / n
    if metric.endswith("_rate"):
        return Number(mean, *wilson(round(mean * n), n, effective=_effective(runs)), n)
    if runs:
        return Number(mean, *crossed([by_prompt(values) for values in runs], seed=seed), n)
    bounds = [row.get(key) for row in rows for key in ("value", "ci_low", "ci_high")]
    known = [bound for bound in bounds if bound is not None]
    return Number(mean, min(known), max(known), n) if len(known) > 1 else Number(mean, nan, nan, n)


def _effective(runs: Sequence[Mapping[Picture, float]]) -> float | None:
    """The number of independent images that those of a rate are worth; None if single images are not known.

    Runs share prompts and noise, so all of them are worth at most their different pictures.
    """
    images = [(prompt, value) for values in runs for (prompt, _), value in values.items()]
    if not images:
        return None
    names, outcomes = zip(*images, strict=True)
    worth = effective_samples(torch.tensor(outcomes), number_prompts(names))
    return min(worth, float(len({picture for values in runs for picture in values})))


def per_picture(study: Collected, results: Sequence[Result], prompts: str, metric: str) -> list[dict[Picture, float]]:
    """A metric's value on each picture, a mapping per seed; for `x_change` minus the unedited model's.

    Empty when the metric is no mean over images (a Frechet distance) or a result has no unedited twin.
    """
    name = metric.removesuffix("_change").removesuffix("_rate")
    twins = {result.seed: outcome(result, prompts, name) for result in study.of(results[0].cell, UNEDITED)}
    runs: list[dict[Picture, float]] = []
    for result in results:
        values = outcome(result, prompts, name)
        if metric.endswith("_change"):
            values = _changes(result, values, twins.get(result.seed, []))
        pictures: dict[Picture, float] = {}
        for picture, value in zip(_pictures(result, prompts, len(values)), values, strict=True):
            if value is not None:
                pictures.setdefault(picture, value)
        runs.append(pictures)
    return runs if all(runs) else []


def by_prompt(pictures: Mapping[Picture, float]) -> ByPrompt:
    """The values of each prompt's pictures."""
    values: dict[str, list[float]] = defaultdict(list)
    for (prompt, _), value in pictures.items():
        values[prompt].append(value)
    return values


def _changes(result: Result, values: Sequence[float | None], twins: Sequence[float | None]) -> list[float | None]:
    if not values or not twins:
        return []
    if len(values) != len(twins):
        raise ValueError(f"{result.folder}: {len(values)} outcomes, but {len(twins)} of the unedited model")
    pairs = zip(values, twins, strict=True)
    return [None if after is None or before is None else after - before for after, before in pairs]


def _pictures(result: Result, prompts: str, outcomes: int) -> list[Picture]:
    """Prompt and seed of each sample that has an outcome, equal ones of one picture; nothing is read without any."""
    if not outcomes:
        return []
    rows = read_metadata(result.pictures(prompts))
    if len(rows) != outcomes:
        raise ValueError(f"{result.pictures(prompts)}: {len(rows)} samples, but {outcomes} outcomes; measure it again")
    return [(str(row["prompt"]), int(row["seed"])) for row in rows]


def outcome(result: Result, prompts: str, name: str) -> Sequence[float | None]:
    """The outcome of each image of a result, in the order of its metadata: None if it was not asked for."""
    return result.outcomes.get(prompts, {}).get(name, [])


def crossed(seeds: Sequence[ByPrompt], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95% percentile interval of the mean over all images, redrawing the seeds and, for all of them, the prompts.

    Seeds share their prompts, and each prompt's noise, so one draw of prompts serves them all. Prompts bring all their
    images: those with more weigh more, as they do in the mean itself.
    """
    names = list(dict.fromkeys(name for prompts in seeds for name in prompts))
    values = [[prompts.get(name, ()) for name in names] for prompts in seeds]
    parts = torch.tensor([[(sum(own), len(own)) for own in row] for row in values], dtype=torch.float64)
    runs, prompts = (_times_drawn(n, draws, seed + i) for i, n in enumerate((len(seeds), len(names))))
    sums, counts = torch.einsum("ds,spk,dp->kd", runs, parts, prompts)
    return percentiles((sums / counts)[counts > 0])


def _times_drawn(n: int, draws: int, seed: int) -> Tensor:
    """How often each draw takes each of n, (draws, n)."""
    picks = resamples(n, draws, seed)
    return torch.zeros(draws, n, dtype=torch.float64).scatter_add(1, picks, torch.ones(draws, n, dtype=torch.float64))
