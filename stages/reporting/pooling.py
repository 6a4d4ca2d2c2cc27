"""The interval of a mean over several seeds, each with several images of several prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.metrics.intervals import percentiles, resamples

DRAWS = 2000
Prompts = Sequence[Sequence[float]]  # the values of each prompt's images


def hierarchical(seeds: Sequence[Prompts], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95% percentile interval of the mean over all images, redrawing first the seeds, then each one's prompts.

    Prompts bring all their images, so those with more weigh more, as they do in the mean itself.
    """
    chosen = resamples(len(seeds), draws, seed)  # (draws, seeds)
    drawn = torch.zeros(2, draws, dtype=torch.float64)  # sums and counts
    for number, prompts in enumerate(seeds):
        for slot in range(len(seeds)):
            redrawn = _redrawn(prompts, draws, seed + 1 + number * len(seeds) + slot)
            drawn += torch.where(chosen[:, slot] == number, redrawn, 0)
    return percentiles(drawn[0] / drawn[1])


def _redrawn(prompts: Prompts, draws: int, seed: int) -> Tensor:
    """Sums and counts (2, draws) over resampled prompts."""
    parts = torch.tensor([(sum(values), len(values)) for values in prompts], dtype=torch.float64)
    return parts[resamples(len(parts), draws, seed)].sum(1).T
