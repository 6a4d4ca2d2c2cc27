"""A method's numbers pooled over its seeds, each with several images of several prompts."""

from __future__ import annotations

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
Prompts = Sequence[Sequence[float]]  # the values of each prompt's images


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
        yield prompts, metric, _pool(same, metric, per_prompt(study, results, prompts, metric), seed)


def _pool(rows: Sequence[Mapping[str, Any]], metric: str, seeds: Sequence[ByPrompt], seed: int) -> Number:
    """A rate by its pooled count, a mean over images by the bootstrap, anything else by the span of its seeds.

    A prompt's images of all seeds are one group. A single number spans nothing: its interval is NaN.
    """
    n = sum(row["n"] for row in rows)
    mean = sum(row["value"] * row["n"] for row in rows) / n
    if metric.endswith("_rate"):
        return Number(mean, *wilson(round(mean * n), n, effective=_effective(seeds)), n)
    if seeds:
        return Number(mean, *hierarchical([list(prompts.values()) for prompts in seeds], seed=seed), n)
    bounds = [row.get(key) for row in rows for key in ("value", "ci_low", "ci_high")]
    known = [bound for bound in bounds if bound is not None]
    return Number(mean, min(known), max(known), n) if len(known) > 1 else Number(mean, nan, nan, n)


def _effective(seeds: Sequence[ByPrompt]) -> float | None:
    """The number of independent images that those of a rate are worth; None if single images are not known."""
    images = [(name, value) for prompts in seeds for name, values in prompts.items() for value in values]
    if not images:
        return None
    names, values = zip(*images, strict=True)
    return effective_samples(torch.tensor(values), number_prompts(names))


def per_prompt(study: Collected, results: Sequence[Result], prompts: str, metric: str) -> list[ByPrompt]:
    """A metric's values on the images of each prompt, a mapping per seed; for `x_change` minus the unedited model's.

    Empty when the metric is no mean over images (a Frechet distance) or a result has no unedited twin.
    """
    name = metric.removesuffix("_change").removesuffix("_rate")
    twins = {result.seed: outcome(result, prompts, name) for result in study.of(results[0].cell, UNEDITED)}
    groups: list[ByPrompt] = []
    for result in results:
        values = outcome(result, prompts, name)
        if metric.endswith("_change"):
            values = _changes(result, values, twins.get(result.seed, []))
        by_prompt: dict[str, list[float]] = {}
        counted: set[tuple[str, int]] = set()
        for picture, value in zip(_pictures(result, prompts, len(values)), values, strict=True):
            if value is not None and picture not in counted:
                counted.add(picture)
                by_prompt.setdefault(picture[0], []).append(value)
        groups.append(by_prompt)
    return groups if all(groups) else []


def _changes(result: Result, values: Sequence[float | None], twins: Sequence[float | None]) -> list[float | None]:
    if not values or not twins:
        return []
    if len(values) != len(twins):
        raise ValueError(f"{result.folder}: {len(values)} outcomes, but {len(twins)} of the unedited model")
    pairs = zip(values, twins, strict=True)
    return [None if after is None or before is None else after - before for after, before in pairs]


def _pictures(result: Result, prompts: str, outcomes: int) -> list[tuple[str, int]]:
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


def hierarchical(seeds: Sequence[Prompts], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95% percentile interval of the mean over all images, redrawing first the seeds, then each one's prompts.

    Prompts bring all their images, so those with more weigh more, as they do in the mean itself.
    """
    picks = resamples(len(seeds), draws, seed)  # (draws, seeds)
    totals = torch.zeros(2, draws, dtype=torch.float64)  # sums and counts
    for number, prompts in enumerate(seeds):
        for slot in range(len(seeds)):
            redrawn = _redrawn(prompts, draws, seed + 1 + number * len(seeds) + slot)
            totals += torch.where(picks[:, slot] == number, redrawn, 0)
    return percentiles(totals[0] / totals[1])


def _redrawn(prompts: Prompts, draws: int, seed: int) -> Tensor:
    """Sums and counts (2, draws) over resampled prompts."""
    parts = torch.tensor([(sum(values), len(values)) for values in prompts], dtype=torch.float64)
    return parts[resamples(len(parts), draws, seed)].sum(1).T
