"""Intervals: Wilson for independent samples, a bootstrap over prompts for means, a jackknife for distances."""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist

import torch
from torch import Tensor

from stages.seeds import Purpose, generator

DRAWS = 10_000  # resamples of a bootstrap


def number_prompts(prompts: Sequence[str]) -> Tensor:
    """The number of each sample's prompt, (N,), counted from 0 in order of appearance."""
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    return torch.tensor([numbers[prompt] for prompt in prompts])


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a rate of independent samples (Wilson 1927), in [0, 1].

    ValueError for counts that cannot be.
    """
    if not 0 <= successes <= n or not n:
        raise ValueError(f"successes must be 0 to n of n > 0, got {successes} of {n}")
    z, rate = quantile(0.5 + confidence / 2), successes / n
    centre, reach = rate + z * z / (2 * n), z * sqrt((rate * (1 - rate) + z * z / (4 * n)) / n)
    low, high = ((centre + side * reach) / (1 + z * z / n) for side in (-1, 1))
    return (low if successes else 0.0), (high if successes < n else 1.0)


def quantile(share: float) -> float:
    """The point below which the standard normal distribution has `share` of its mass."""
    return NormalDist().inv_cdf(share)


def percentiles(values: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """The bounds of the middle share `confidence` of values (R,), interpolated linearly."""
    tail = (1 - confidence) / 2
    low, high = torch.quantile(values.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def resamples(n: int, draws: int, seed: int) -> Tensor:
    """`draws` draws of n out of n with replacement: indices (draws, n)."""
    return torch.randint(n, (draws, n), generator=generator(Purpose.BOOTSTRAP, seed))


def resampled_means(values: Tensor, indices: Tensor, groups: Tensor | None = None) -> Tensor:
    """The mean of values (N,) under each resample (R, G) of its groups, (R,).

    `groups` (N,) numbers the prompt of each value from 0; without it each value is a group. NaN does not count.
    """
    valid = ~values.isnan()
    known = torch.where(valid, values, 0).double()
    if groups is None:
        total, count = known, valid.double()
    else:
        size = int(groups.max()) + 1
        total = torch.zeros(size, dtype=torch.float64).index_add(0, groups, known)
        count = torch.zeros(size, dtype=torch.float64).index_add(0, groups, valid.double())
    return total[indices].sum(1) / count[indices].sum(1)


def paired_bootstrap(
    a: Tensor,
    b: Tensor,
    *,
    seed: int,
    groups: Tensor | None = None,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of mean(a) - mean(b), both (N,), over the same resampled prompts."""
    return bootstrap(a.double() - b.double(), seed=seed, groups=groups, draws=draws, confidence=confidence)


def bootstrap(
    values: Tensor, *, seed: int, groups: Tensor | None = None, draws: int = DRAWS, confidence: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of the mean of values (N,) over resampled prompts, which `groups` (N,) numbers.

    NaN does not count: prompts that have nothing else are none of those that are resampled.
    """
    known = ~values.isnan()
    if groups is not None:
        groups = groups[known].unique(return_inverse=True)[1]
    values = values[known]
    n = len(values) if groups is None else int(groups.max()) + 1
    return percentiles(resampled_means(values, resamples(n, draws, seed), groups), confidence)


def jackknife(
    statistic: Callable[[Tensor], float], n: int, *, seed: int, parts: int = 20, confidence: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """The normal interval of statistic(rows), from leaving out each of `parts` random groups of the n rows.

    For distances between distributions: they depend on n, and the repeated rows of a bootstrap would add to that bias.
    (None, None) below two rows per part.
    """
    if n < 2 * parts:
        return None, None
    order = torch.randperm(n, generator=generator(Purpose.BOOTSTRAP, seed))
    groups = order.tensor_split(parts)
    left = [statistic(torch.cat([*groups[:i], *groups[i + 1 :]])) for i in range(parts)]
    values = torch.tensor(left, dtype=torch.float64)
    error = float(((parts - 1) / parts * (values - values.mean()).square().sum()).sqrt())
    point, reach = statistic(torch.arange(n)), quantile(0.5 + confidence / 2) * error
    return point - reach, point + reach
