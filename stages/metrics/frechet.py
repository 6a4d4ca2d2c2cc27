"""The Frechet distance between two sets of features (Heusel 2017, arXiv 1706.08500), here of the world's judge."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.metrics.base import Samples, Statistics, Value
from stages.metrics.distances import distances
from stages.metrics.judged import Judged

log = logging.getLogger(__name__)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean (D,) and covariance (D, D) of features (N, D) in float64, the latter over n - 1."""
    features = features.double()
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1)


def frechet_distance(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    """Returns |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); the root by eigenvalues, so that a rank may be missing."""
    values, vectors = torch.linalg.eigh(cov)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ other_cov @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    return float((mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * overlap)


def frechet(x: Tensor, y: Tensor) -> float:
    """Returns the distance between two sets of features, (N, D) and (M, D)."""
    return frechet_distance(*moments(x), *moments(y))


def gap(x: Tensor, y: Tensor, *, paired: bool) -> float:
    """Returns the distance of all frames, which rounding can leave a hair below 0; it is blind to pairs."""
    return max(frechet(x.flatten(0, 1), y.flatten(0, 1)), 0.0)


def warn_of_lacking_rank(name: str, features: Tensor) -> None:
    """Warns when features (N, F, D) are too few for the rank of their covariance."""
    n, width = features.flatten(0, 1).shape
    if n <= width:
        log.warning("%s: %d samples of %d features: the covariance lacks rank, compare loosely", name, n, width)


@dataclass(frozen=True)
class Frechet(Judged):
    """Frechet distances of standardised judge features: to real renders, and to the unedited samples.

    They grow as samples get fewer, so compare equal n only.
    """

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        warn_of_lacking_rank("frechet", features)
        return super().statistics(features, samples)

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        return distances("frechet", gap, edited, original, seed=self.seed, least=0.0)
