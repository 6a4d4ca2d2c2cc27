"""The Frechet distance between two sets of features (Heusel 2017, arXiv 1706.08500), here of the world's judge."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.metrics.base import Column, Statistics, Value
from stages.metrics.distances import distances
from stages.metrics.judged import Judged

SMALLEST = 1e-12  # pivot of a covariance of full rank, as a share of its largest


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D) in float64, the latter over n - 1."""
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1)


def frechet_distance(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) for means (D,) and covariances (D, D).

    The covariances may lack rank.
    """
    overlap = root_trace(cov, other_cov)
    return float((mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * overlap)


def root_trace(cov: Tensor, other_cov: Tensor) -> float:
    """tr (S1 S2)^(1/2) of covariances (D, D), by one symmetric eigendecomposition without vectors.

    With S1 = L L^T the eigenvalues of S1 S2 are those of L^T S2 L, which is symmetric.
    """
    factor, failed = torch.linalg.cholesky_ex(cov)
    pivots = factor.diagonal().square()
    if failed or pivots.min() < SMALLEST * pivots.max():  # it lacks rank: what is left of the pivots is rounding
        values, vectors = torch.linalg.eigh(cov)
        factor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = factor.T @ other_cov @ factor
    return float(torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum())


def frechet(x: Tensor, y: Tensor) -> float:
    """The distance between two sets of features, (N, D) and (M, D)."""
    return frechet_distance(*moments(x), *moments(y))


def frame_distance(x: Tensor, y: Tensor, *, paired: bool) -> float:
    """The distance between all frames of clips (N, F, D) and (M, F, D), at least 0; pairs make no difference."""
    return max(frechet(x.flatten(0, 1), y.flatten(0, 1)), 0.0)


def packed_distance(x: Tensor, packed: Tensor) -> float:
    """The distance of all frames of clips (N, F, D), at least 0, to what has the mean packed[0] and the covariance
    packed[1:], (1 + D, D) in float64."""
    return max(frechet_distance(*moments(x.flatten(0, 1)), packed[0], packed[1:]), 0.0)


def lacks_rank(name: str, features: Tensor) -> str | None:
    """A caveat if features (N, F, D) are too few for their covariance to have full rank."""
    n, width = features.flatten(0, 1).shape
    if n > width:
        return None
    return f"{name}: {n} samples of {width} features: the covariance lacks rank, compare loosely"


@dataclass(frozen=True)
class Frechet(Judged):
    """Frechet distances of standardised judge features: to real renders, and to the unedited samples.

    They grow as samples get fewer, so compare equal n only.
    """

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return distances("frechet", frame_distance, edited, original, seed=self.seed, least=0.0)

    def caveat(self, features: Tensor) -> str | None:
        return lacks_rank("frechet", features)

    def columns(self) -> tuple[Column, ...]:
        return (Column("retain", "frechet_unedited", "Fréchet to unedited", "low", unedited=True),)
