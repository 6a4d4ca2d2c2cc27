"""The kernel distance (KID, Binkowski 2018, arXiv 1801.01401): unbiased, so kinder to small samples than Frechet."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.metrics.frechet import Judged


def mmd(x: Tensor, y: Tensor, *, paired: bool = False) -> Tensor:
    """Returns the unbiased squared discrepancy of features (N, D) and (M, D) under the kernel (x.y / D + 1)^3.

    `paired` rows depend on each other (the same prompt and noise), so that a row and its twin must not be compared.
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        base = a @ b.T / a.shape[1] + 1
        return base * base * base  # a power of floats is many times slower

    def apart(values: Tensor) -> Tensor:
        return (values.sum() - values.trace()) / (len(values) * (len(values) - 1))

    across = kernel(x, y)
    return apart(kernel(x, x)) + apart(kernel(y, y)) - 2 * (apart(across) if paired else across.mean())


def kid(x: Tensor, y: Tensor, rows: Tensor, other_rows: Tensor) -> Tensor:
    """Returns the squared discrepancy of each pair of subsets, (S, m) row numbers each, (S,); their mean is the KID."""
    return torch.stack([mmd(x[a], y[b]) for a, b in zip(rows, other_rows, strict=True)])


@dataclass(frozen=True)
class KID(Judged):
    """Kernel distances of standardised judge features: to real renders, and to the unedited samples.

    Over all samples at once, which is what the mean over subsets estimates; below 0 by chance where there is no gap.
    """

    prefix: ClassVar[str] = "kid"

    def distance(self, x: Tensor, y: Tensor, *, paired: bool) -> float:
        return float(mmd(x, y, paired=paired))
