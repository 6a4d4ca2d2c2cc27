"""The Frechet distance between two sets of features (Heusel 2017, arXiv 1706.08500), here of the world's judge."""

import logging
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from stages.fields import Count
from stages.metrics.base import Metric, Samples, Statistics, Value
from stages.metrics.intervals import jackknife
from stages.metrics.judged import JUDGE, frames, load_judge, real_features

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


@dataclass(frozen=True)
class Distance(Metric):
    """A distance between features (N, F, D): to real pictures where there are any, and to the unedited samples."""

    seed: int = 0
    prefix: ClassVar[str]

    @abstractmethod
    def distance(self, x: Tensor, y: Tensor, *, paired: bool) -> float:
        """Returns the distance between features (N, D) and (M, D); `paired` rows are of the same prompt and noise."""

    def score(self, edited: Statistics, original: Statistics | None) -> dict[str, Value]:
        own = edited["features"]
        if own.shape[:2].numel() < 2:
            return {}

        def to_real(rows: Tensor) -> float:
            return self.distance(own[rows].flatten(0, 1), edited["real"], paired=False)

        def to_unedited(rows: Tensor) -> float:
            return self.distance(own[rows].flatten(0, 1), original["features"][rows].flatten(0, 1), paired=True)

        kinds = {"real": to_real} if "real" in edited else {}
        kinds |= {"unedited": to_unedited} if original is not None else {}
        return {f"{self.prefix}_{kind}": self._value(distance, len(own)) for kind, distance in kinds.items()}

    def _value(self, distance: Callable[[Tensor], float], n: int) -> Value:
        return Value(distance(torch.arange(n)), *jackknife(distance, n, seed=self.seed), n)


@dataclass(frozen=True)
class Judged(Distance):
    """A distance of standardised judge features: to real renders of what was asked for, and to the unedited samples."""

    judge: str = JUDGE
    reference: Count = 2048  # real renders

    def features(self, samples: Samples) -> Tensor:
        """Returns (N, F, D): a picture is a clip of one frame."""
        return load_judge(self.judge).features(frames(samples.images)).unflatten(0, (len(samples.images), -1))

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        return {"features": features, "real": real_features(self.judge, samples, self.reference, self.seed)}


class Gaussians(Distance):
    """The distance of the Gaussians that have the features' moments; a missing rank is warned of."""

    def distance(self, x: Tensor, y: Tensor, *, paired: bool) -> float:
        return max(frechet(x, y), 0.0)  # rounding can leave it a hair below

    def statistics(self, features: Tensor, samples: Samples) -> Statistics:
        n, width = features.flatten(0, 1).shape
        if n <= width:
            log.warning(
                "%s: %d samples of %d features: the covariance lacks rank, compare loosely", self.prefix, n, width
            )
        return super().statistics(features, samples)

    def _value(self, distance: Callable[[Tensor], float], n: int) -> Value:
        value = super()._value(distance, n)
        return value if value.ci_low is None else replace(value, ci_low=max(value.ci_low, 0.0))


@dataclass(frozen=True)
class Frechet(Gaussians, Judged):
    """Frechet distances of judge features. They grow as samples get fewer, so compare equal n only."""

    prefix: ClassVar[str] = "frechet"
