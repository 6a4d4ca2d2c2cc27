"""The kernel distance (KID, Binkowski 2018, arXiv 1801.01401): unbiased, so kinder to small samples than Frechet."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.metrics.base import Statistics, Value
from stages.metrics.distances import distances
from stages.metrics.judged import Judged


def mmd(x: Tensor, y: Tensor, *, paired: bool = False, frames: int = 1) -> Tensor:
    """Returns the unbiased squared discrepancy of features (N, D) and (M, D) under the kernel (x.y / D + 1)^3.

    Rows that depend on each other are not compared: every `frames` of them are the frames of one clip, and where
    clips are `paired` (the same prompt and noise), those of one and those of its twin.
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        base = a @ b.T / a.shape[1] + 1
        return base * base * base  # a power of floats is many times slower

    def apart(values: Tensor) -> Tensor:
        within = sum(values[i::frames, j::frames].trace() for i in range(frames) for j in range(frames))
        return (values.sum() - within) / (len(values) * (len(values) - frames))

    across = kernel(x, y)
    return apart(kernel(x, x)) + apart(kernel(y, y)) - 2 * (apart(across) if paired else across.mean())


def kid(x: Tensor, y: Tensor, rows: Tensor, other_rows: Tensor) -> Tensor:
    """Returns the squared discrepancy of each pair of subsets, (S, m) row numbers each, (S,); their mean is the KID."""
    return torch.stack([mmd(x[a], y[b]) for a, b in zip(rows, other_rows, strict=True)])


def gap(x: Tensor, y: Tensor, *, paired: bool) -> float:
    """Returns the discrepancy of all clips (N, F, D) and (M, F, D) at once: what the mean over subsets estimates."""
    return float(mmd(x.flatten(0, 1), y.flatten(0, 1), paired=paired, frames=x.shape[1]))


@dataclass(frozen=True)
class KID(Judged):
    """Kernel distances of standardised judge features: to real renders, and to the unedited samples.

    Below 0 by chance where there is no gap.
    """

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return distances("kid", gap, edited, original, seed=self.seed)
