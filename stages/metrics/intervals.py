"""Intervals: Wilson for rates, a bootstrap over prompts for means, a jackknife for the rest."""

from collections.abc import Callable
from math import sqrt
from statistics import NormalDist

import torch
from torch import Tensor

DRAWS = 10_000


def wilson(successes: int, n: int, confidence: float = 0.95, *, effective: float | None = None) -> tuple[float, float]:
    """Returns the score interval of a rate (Wilson 1927), of samples that are worth `effective` independent ones."""
    if not 0 <= successes <= n or not n:
        raise ValueError(f"successes must be 0 to n of n > 0, got {successes} of {n}")
    z, rate, size = quantile(0.5 + confidence / 2), successes / n, n if effective is None else effective
    centre, reach = rate + z * z / (2 * size), z * sqrt((rate * (1 - rate) + z * z / (4 * size)) / size)
    low, high = ((centre + side * reach) / (1 + z * z / size) for side in (-1, 1))
    return (low if successes else 0.0), (high if successes < n else 1.0)


def effective_samples(values: Tensor, groups: Tensor) -> float:
    """Returns how many independent samples the values (N,) are worth, of which those of one group may be alike.

    N over the design effect 1 + (m - 1) rho (Kish 1965), where m is the mean size of a value's group and rho, from 0
    to 1, the correlation within groups by analysis of variance: 0 where no value differs, 1 of a single group, which
    cannot tell. In Wilson's interval that is what Franco et al. (2019, PMC6690503) recommend for proportions.
    """
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    n, count, values = len(values), len(sizes), values.double()
    if count in (1, n):
        return float(count)
    means = torch.zeros(count, dtype=torch.float64).index_add(0, group, values) / sizes
    between = float((sizes * (means - values.mean()).square()).sum()) / (count - 1)
    within = float((values - means[group]).square().sum()) / (n - count)
    m = float(sizes.square().sum()) / n
    spread = between + ((n - m) / (count - 1) - 1) * within
    rho = min(max((between - within) / spread, 0.0), 1.0) if spread else 0.0
    return n / (1 + (m - 1) * rho)


def quantile(share: float) -> float:
    """Returns the point below which the standard normal distribution has `share` of its mass."""
    return NormalDist().inv_cdf(share)


def percentiles(values: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the middle share `confidence` of values (R,), interpolated linearly."""
    tail = (1 - confidence) / 2
    low, high = torch.quantile(values.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def resamples(n: int, draws: int, seed: int) -> Tensor:
    """Returns `draws` draws of n out of n with replacement, (draws, n)."""
    return torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))


def resampled_means(values: Tensor, indices: Tensor, groups: Tensor | None = None) -> Tensor:
    """Returns the mean of values (N,) under each resample (R, G) of its groups, (R,).

    `groups` (N,) numbers the prompt of each value from 0; without it each value is its own. Values of NaN do not count.
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
    """Returns the percentile interval of mean(a) - mean(b), both over the same resampled prompts."""
    return bootstrap(a.double() - b.double(), seed=seed, groups=groups, draws=draws, confidence=confidence)


def bootstrap(
    values: Tensor, *, seed: int, groups: Tensor | None = None, draws: int = DRAWS, confidence: float = 0.95
) -> tuple[float, float]:
    """Returns the percentile interval of the mean of values (N,) over resampled prompts."""
    n = len(values) if groups is None else int(groups.max()) + 1
    return percentiles(resampled_means(values, resamples(n, draws, seed), groups), confidence)


def jackknife(
    statistic: Callable[[Tensor], float], n: int, *, seed: int, parts: int = 20, confidence: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """Returns the normal interval of statistic(rows) with rows left out in `parts` random groups.

    For distances between distributions, whose bias with n a bootstrap would add to. None below two rows per part.
    """
    if n < 2 * parts:
        return None, None
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    groups = order.tensor_split(parts)
    left = [statistic(torch.cat([*groups[:i], *groups[i + 1 :]])) for i in range(parts)]
    values = torch.tensor(left, dtype=torch.float64)
    error = float(((parts - 1) / parts * (values - values.mean()).square().sum()).sqrt())
    point, reach = statistic(torch.arange(n)), quantile(0.5 + confidence / 2) * error
    return point - reach, point + reach
