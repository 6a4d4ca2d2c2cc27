"""The kernel distance (KID, Binkowski 2018, arXiv 1801.01401): unbiased, so kinder to small samples than Frechet."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.metrics.base import Column, Statistics, Value
from stages.metrics.distances import distances
from stages.metrics.judged import Judged


def mmd(x: Tensor, y: Tensor, *, paired: bool = False, frames: int = 1) -> Tensor:
    """The unbiased squared discrepancy of features (N, D) and (M, D) under the kernel (x.y / D + 1)^3, a scalar.

    Rows that depend on each other are not compared. Every `frames` consecutive rows are the frames of one clip; with
    `paired`, clip i of x and clip i of y share prompt and noise, so they are left out too.
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        base = a @ b.T / a.shape[1] + 1
        return base * base * base  # a power of floats is many times slower

    def mean_across_clips(values: Tensor) -> Tensor:
        within = sum(values[i::frames, j::frames].trace() for i in range(frames) for j in range(frames))
        return (values.sum() - within) / (len(values) * (len(values) - frames))

    across = kernel(x, y)
    between = mean_across_clips(across) if paired else across.mean()
    return mean_across_clips(kernel(x, x)) + mean_across_clips(kernel(y, y)) - 2 * between


def kid(x: Tensor, y: Tensor, rows: Tensor, other_rows: Tensor) -> Tensor:
    """The squared discrepancy of each pair of subsets, (S,), whose mean is the KID.

    Subset s is the rows[s] of x (N, D) and the other_rows[s] of y (M, D); both index tensors are (S, m).
    """
    return torch.stack([mmd(x[a], y[b]) for a, b in zip(rows, other_rows, strict=True)])


def clip_distance(x: Tensor, y: Tensor, *, paired: bool) -> float:
    """The discrepancy of all clips (N, F, D) and (M, F, D) at once, which the mean over subsets estimates."""
    return float(mmd(x.flatten(0, 1), y.flatten(0, 1), paired=paired, frames=x.shape[1]))


@dataclass(frozen=True)
class KID(Judged):
    """Kernel distances of standardised judge features: to real renders, and to the unedited samples.

    They are unbiased, so equal distributions give values below 0 as often as above.
    """

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return distances("kid", clip_distance, edited, original, seed=self.seed)

    def columns(self) -> tuple[Column, ...]:
        return (Column("retain", "kid_unedited", "Kernel distance to unedited", "low", unedited=True),)
