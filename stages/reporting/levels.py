"""One number of several trainings: backbone > training seed > prompt > noise.

All runs of a table share their prompts and noise. So a run's own interval says how far prompts and noise move a number,
and how far the runs lie apart says how much another training would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf

import torch
from scipy import stats
from torch import Tensor

from stages.metrics.intervals import bootstrap, number_prompts, percentiles, quantile, resamples
from stages.metrics.proportions import difference, rate_interval
from stages.reporting.numbers import Number, Part

DRAWS = 2000  # resamples of a bootstrap
FEWEST = 3  # of a level's values that are worth an interval; fewer stand side by side
Picture = tuple[str, int]  # prompt and seed of the noise
Pictures = Mapping[Picture, float]  # the value of each picture
Limits = tuple[float, float]


@dataclass(frozen=True)
class Trained:
    """The pictures of one run."""

    backbone: str
    seed: int  # of the training
    pictures: Pictures


Leaf = Callable[[Pictures], Part]


def rates(pictures: Pictures) -> Part:
    """A rate, from ones and zeros."""
    values, groups = _tensors(pictures)
    return Part(float(values.mean()), *rate_interval(values, groups))


def means(pictures: Pictures) -> Part:
    """A mean, its prompts redrawn; the noise, if there is one prompt."""
    values, groups = _tensors(pictures)
    several = int(groups.max()) > 0
    return Part(float(values.mean()), *bootstrap(values, seed=0, groups=groups if several else None, draws=DRAWS))


def steps(pictures: Pictures) -> Part:
    """A difference of two rates, from -1, 0 and 1."""
    values, groups = _tensors(pictures)
    found = difference(values.clamp(min=0), (-values).clamp(min=0), groups)
    return Part(found.value, found.low, found.high, found.p)


def _tensors(pictures: Pictures) -> tuple[Tensor, Tensor]:
    values = torch.tensor(list(pictures.values()), dtype=torch.float64)
    return values, number_prompts([prompt for prompt, _ in pictures])


def together(runs: Sequence[Trained], leaf: Leaf, *, limits: Limits = (-inf, inf), seed: int = 0) -> Number:
    """The number of all runs, whose interval holds for another backbone, or for another training, if three were made.

    If fewer were, their values are parts that stand side by side, and the bounds are the outermost of the parts'.
    Runs of one backbone whose pictures are all equal (nothing was trained) are one. ValueError without a run.
    """
    backbones = _backbones(runs)
    value = _mean([run.pictures for of_one in backbones for run in of_one])
    n = sum(len(run.pictures) for run in runs)
    flat = [run for of_one in backbones for run in of_one]
    if len(flat) == 1:
        own = leaf(flat[0].pictures)
        return Number(value, own.low, own.high, n, p=own.p)
    if len(backbones) >= FEWEST or len(backbones) == 1 and len(flat) >= FEWEST:
        return _interval(backbones, [leaf(run.pictures) for run in flat], value, n, limits=limits, seed=seed)
    parts: list[Number] = []
    for of_one in backbones if len(backbones) > 1 else [[run] for run in flat]:
        one = together(of_one, leaf, limits=limits, seed=seed)
        parts += [Number(part.value, part.low, part.high, 0, p=part.p) for part in one.parts] or [one]
    sides = {part.value > 0 for part in parts}
    shown = tuple(Part(part.value, part.low, part.high, part.p) for part in parts)
    least = max(part.p for part in parts) if len(sides) == 1 else 1.0
    return Number(value, min(p.low for p in parts), max(p.high for p in parts), n, shown, least)


def _backbones(runs: Sequence[Trained]) -> list[list[Trained]]:
    """The runs of each backbone; one of those that are equal in every picture."""
    if not runs:
        raise ValueError("a number needs at least one run")
    ordered = sorted(runs, key=lambda run: (run.backbone, run.seed))
    groups = [list(of_one) for _, of_one in groupby(ordered, key=lambda run: run.backbone)]
    return [g[:1] if all(run.pictures == g[0].pictures for run in g) else g for g in groups]


def _mean(runs: Sequence[Pictures]) -> float:
    return sum(sum(run.values()) for run in runs) / sum(map(len, runs))


def _interval(
    backbones: Sequence[Sequence[Trained]],
    own: Sequence[Part],
    value: float,
    n: int,
    *,
    limits: Limits,
    seed: int,
) -> Number:
    """The nested bootstrap's interval, and at least that of Student's t over the outermost level with the runs' own."""
    units = [_mean([run.pictures for run in of_one]) for of_one in backbones]
    if len(units) == 1:
        units = [_mean([run.pictures]) for run in backbones[0]]
    spread = float(torch.tensor(units, dtype=torch.float64).std()) / len(units) ** 0.5
    reach = float(stats.t.ppf(0.975, len(units) - 1)) * spread
    down = sum(one.value - one.low for one in own) / len(own)
    up = sum(one.high - one.value for one in own) / len(own)
    low, high = nested([[run.pictures for run in of_one] for of_one in backbones], seed=seed)
    low, high = (
        min(low, value - (reach**2 + down**2) ** 0.5),
        max(high, value + (reach**2 + up**2) ** 0.5),
    )
    error = ((up if value < 0 else down) / quantile(0.975)) ** 2
    freedom = (spread**2 + error) ** 2 / (spread**4 / (len(units) - 1)) if spread else inf
    score = abs(value) / max(spread**2 + error, 1e-300) ** 0.5
    return Number(
        value, max(low, limits[0]), min(high, limits[1]), n, p=float(2 * stats.t.sf(score, min(freedom, 1e6)))
    )


def nested(backbones: Sequence[Sequence[Pictures]], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over all pictures: backbones redrawn, in each its runs, and the prompts.

    Prompts and noise are the same for all runs, so one draw of prompts serves them all, and a prompt brings its noise.
    Of the outermost level with several members one less is drawn than there are, which keeps its variance without bias
    (Rao and Wu 1988).
    """
    names = list(dict.fromkeys(prompt for runs in backbones for run in runs for prompt, _ in run))
    place = {name: number for number, name in enumerate(names)}
    parts = torch.zeros(sum(map(len, backbones)), len(names), 2, dtype=torch.float64)
    flat = [run for runs in backbones for run in runs]
    for number, run in enumerate(flat):
        for (prompt, _), value in run.items():
            parts[number, place[prompt]] += torch.tensor([value, 1.0], dtype=torch.float64)
    outer = _times_drawn(len(backbones), draws, seed, fewer=len(backbones) > 1)
    columns = [
        outer[:, [b]] * _times_drawn(len(runs), draws, seed + 2 + b, fewer=len(backbones) == 1) / len(runs)
        for b, runs in enumerate(backbones)
    ]
    prompts = _times_drawn(len(names), draws, seed + 1)
    sums, counts = torch.einsum("ds,spk,dp->kd", torch.cat(columns, 1), parts, prompts)
    return percentiles((sums / counts)[counts > 0])


def _times_drawn(n: int, draws: int, seed: int, *, fewer: bool = False) -> Tensor:
    """How often each draw takes each of n, (draws, n); with `fewer` it takes n - 1, of one it takes that."""
    picks = resamples(n, draws, seed)[:, : n - 1 if fewer and n > 1 else n]
    return torch.zeros(draws, n, dtype=torch.float64).scatter_add(1, picks, torch.ones_like(picks, dtype=torch.float64))
