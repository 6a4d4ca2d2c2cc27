"""Intervals of rates, and of their paired differences, if pictures of one prompt are alike.

Both know that a rate of 0 or 100 % says nothing about how alike pictures of one prompt are: a prior takes the place of
what the pictures do not say. The priors are chosen by simulation; docs/protocol.md has the coverage that they reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from stages.metrics.intervals import wilson

RATES, CORRELATIONS = 240, 20  # nodes of the two priors
INDEPENDENT = 0.15  # prior probability that pictures of one prompt are no more alike than others
ALIKE = 0.6  # else their correlation is drawn from Beta(1, ALIKE)
PRIOR, WEIGHT = 0.3, 2.0  # of a difference: the correlation assumed, with the weight of this many discordant pairs
HALVINGS = 40  # of the span in which a bound is sought
CHUNK = 256  # different histograms that are integrated at once


def rate_interval(values: Tensor, groups: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the rate of prompts, from ones and zeros (N,) whose prompts `groups` (N,) numbers.

    ValueError if there are no values.
    """
    if not len(values):
        raise ValueError("a rate needs at least one outcome")
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    successes = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, group, values.double())
    low, high = clustered(successes[None].round().long(), sizes, confidence)
    return float(low[0]), float(high[0])


def clustered(successes: Tensor, sizes: Tensor, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    """The bounds (R,) of the mean rate of G prompts from R samples' successes (R, G) of sizes (G,) pictures each.

    Equal tails of the posterior of a beta-binomial model: Jeffreys' prior on the rate, and on the correlation within
    prompts a mass at 0 beside a Beta distribution. Never inside Wilson's interval of as many independent pictures.
    """
    histograms, tables = [], []
    for size in sizes.unique().tolist():
        same = successes[:, sizes == size]
        histograms.append(torch.stack([(same == k).sum(1) for k in range(size + 1)], 1))
        tables.append(_log_likelihoods(size))
    seen, back = torch.cat(histograms, 1).unique(dim=0, return_inverse=True)
    table, tail = torch.cat(tables), (1 - confidence) / 2
    bounds = torch.cat([_quantiles(part.double() @ table, (tail, 1 - tail)) for part in seen.split(CHUNK)])[back]
    totals, n = successes.sum(1).tolist(), int(sizes.sum())
    plain = torch.tensor([wilson(total, n, confidence) for total in totals], dtype=torch.float64)
    return torch.minimum(bounds[:, 0], plain[:, 0]), torch.maximum(bounds[:, 1], plain[:, 1])


def _rates() -> Tensor:
    """Nodes of Jeffreys' prior, each with the same mass, (RATES,)."""
    return ((torch.arange(RATES, dtype=torch.float64) + 0.5) / RATES * pi / 2).sin().square()


@lru_cache(maxsize=32)
def _log_likelihoods(size: int) -> Tensor:
    """log P(k of `size` | rate, correlation) but for a constant, (size + 1, RATES * (1 + CORRELATIONS))."""
    rate = _rates()[None, :, None]
    shares = (torch.arange(CORRELATIONS, dtype=torch.float64) + 0.5) / CORRELATIONS
    rho = (1 - (1 - shares) ** (1 / ALIKE))[None, None]
    k = torch.arange(size + 1, dtype=torch.float64)[:, None, None]
    one, other = rate * (1 - rho) / rho, (1 - rate) * (1 - rho) / rho

    def beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    alike = beta(k + one, size - k + other) - beta(one, other)
    independent = k * rate.log() + (size - k) * (1 - rate).log()
    return torch.cat([independent, alike], 2).flatten(1)


def _quantiles(logs: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles (R, len(shares)) of the rate under joint log likelihoods (R, RATES * (1 + CORRELATIONS))."""
    logs = logs.unflatten(1, (RATES, 1 + CORRELATIONS))
    prior = torch.tensor([INDEPENDENT] + CORRELATIONS * [(1 - INDEPENDENT) / CORRELATIONS], dtype=torch.float64)
    mass = (logs - logs.amax((1, 2), keepdim=True)).exp() @ prior
    mass = mass / mass.sum(1, keepdim=True)
    below, nodes = mass.cumsum(1) - mass / 2, _rates()
    found = []
    for share in shares:
        after = (below < share).sum(1).clamp(1, RATES - 1)
        (left, right), (start, end) = (
            (values.gather(1, after[:, None] - 1)[:, 0], values.gather(1, after[:, None])[:, 0])
            for values in (below, nodes.expand_as(below))
        )
        part = ((share - left) / (right - left).clamp(min=1e-300)).clamp(0, 1)
        found.append(start + part * (end - start))
    return torch.stack(found, 1)


@dataclass(frozen=True)
class Difference:
    """A difference of two rates on the same pictures."""

    value: float
    low: float  # of the interval
    high: float
    p: float  # of the two-sided test that there is none


def difference(a: Tensor, b: Tensor, groups: Tensor, confidence: float = 0.95) -> Difference:
    """mean(a) - mean(b) of ones and zeros (N,) on the same prompts and noise; NaN in either leaves a pair out.

    Tango's score interval (Statistics in Medicine 17, 1998) of the number of independent pairs that the N are worth,
    with Student's t in the place of z. `groups` (N,) numbers the prompts. ValueError without a pair.
    """
    known = ~(a.isnan() | b.isnan())
    steps = (a - b)[known].double()
    if not len(steps):
        raise ValueError("a difference needs at least one pair of outcomes")
    n, (worth, freedom) = len(steps), _worth(steps, groups[known])
    more, less = (float((steps == sign).sum()) * worth / n for sign in (1, -1))
    reach = float(stats.t.ppf(0.5 + confidence / 2, freedom))
    low, high = tango(torch.tensor([more]), torch.tensor([less]), torch.tensor([worth]), reach)
    score = (more - less) / (more + less) ** 0.5 if more + less else 0.0
    return Difference(float(steps.mean()), float(low[0]), float(high[0]), float(2 * stats.t.sf(abs(score), freedom)))


def _worth(steps: Tensor, groups: Tensor) -> tuple[float, float]:
    """The number of independent pairs that differences (N,) are worth, and the degrees of freedom of their spread."""
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    n, prompts = len(steps), len(sizes)
    sums = torch.zeros(prompts, dtype=torch.float64).index_add(0, group, steps)
    worth = pairs_worth(sums[None], (steps != 0).sum()[None], sizes)
    value = float(worth[0])
    return value, degrees(value, prompts) if n > 1 else 1.0


def pairs_worth(sums: Tensor, discordant: Tensor, sizes: Tensor) -> Tensor:
    """How many independent pairs those of R samples are worth, (R,), at least 1.

    `sums` (R, G) are those of the differences -1, 0 and 1 of G prompts with sizes (G,) pairs each, `discordant` (R,)
    counts what is not 0. The correlation within prompts is that of the analysis of variance, drawn towards `PRIOR`
    as strongly as `WEIGHT` discordant pairs say otherwise (Kish's design effect, 1965).
    """
    n, prompts = float(sizes.sum()), len(sizes)
    m = float(sizes.double().square().sum()) / n
    known, squares = discordant.double(), sums.square() / sizes
    rho = torch.full_like(known, 0.0)
    if 1 < prompts < n:
        between = (squares.sum(1) - sums.sum(1).square() / n) / (prompts - 1)
        within = (known - squares.sum(1)) / (n - prompts)
        spread = between + ((n - m) / (prompts - 1) - 1) * within
        rho = torch.where(spread > 0, (between - within) / spread, 0.0).clamp(0, 1)
    elif prompts == 1:
        known = torch.zeros_like(known)  # one prompt says nothing about how alike those of another are
    rho = (known * rho + WEIGHT * PRIOR) / (known + WEIGHT)
    return (n / (1 + (m - 1) * rho)).clamp(min=1)


def degrees(worth: float, prompts: int) -> float:
    """Degrees of freedom between those of as many independent pairs and those of the prompts: their geometric mean."""
    return max(1.0, (max(prompts - 1, 1) * max(worth - 1, 1)) ** 0.5)


def tango(more: Tensor, less: Tensor, n: Tensor, reach: float | Tensor) -> tuple[Tensor, Tensor]:
    """The score interval (Tango 1998) of (more - less) / n for n pairs, all (R,), that need not be whole numbers.

    `more` and `less` are the pairs of which only the first, or only the second, is 1; `reach` is the quantile.
    """
    ones, others, pairs, limit = (np.asarray(values, dtype=np.float64) for values in (more, less, n, reach))
    gain, either = ones - others, ones + others
    point = gain / pairs

    def score(gap: np.ndarray) -> np.ndarray:
        linear = (2 * pairs - gain) * gap - either
        rest = gap * (1 - gap)
        root = np.sqrt(np.maximum(linear * linear + 8 * pairs * others * rest, 0))
        variance = (root - linear) / 2 + pairs * rest
        return (gain - pairs * gap) / np.sqrt(np.maximum(variance, 1e-300))

    def bound(sign: int) -> np.ndarray:
        inside, outside = point, np.full_like(point, -sign)
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            beyond = sign * score(middle) > limit
            inside, outside = np.where(beyond, inside, middle), np.where(beyond, middle, outside)
        return (inside + outside) / 2

    return torch.from_numpy(bound(1)), torch.from_numpy(bound(-1))


def holm(chances: Sequence[float]) -> list[float]:
    """p-values of a family of tests, adjusted so that one in twenty families has a false claim at 0.05 (Holm 1979)."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    adjusted, largest = [1.0] * len(chances), 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[position]))
        adjusted[position] = largest
    return adjusted
