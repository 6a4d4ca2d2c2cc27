"""Directions, gates and transports from pooled activations (n, D) of two classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Distance = Literal["EUCLIDEAN", "MAHALANOBIS"]
NOWHERE = (float("inf"), -float("inf"))  # a support that holds no value
EVERYWHERE = (-float("inf"), float("inf"))


def pooled_covariance(*classes: Tensor) -> Tensor:
    """The covariance (D, D) of all samples (n, D) about their own class's mean, divided by n - 1 over all classes."""
    centred = torch.cat([samples - samples.mean(0) for samples in classes])
    return centred.T @ centred / (len(centred) - 1)


def ridge_precision(covariance: Tensor, n: int) -> Tensor:
    """P = D ((n - 1) S + tr(S) I)^-1 of a covariance S (D, D) of n samples: exists for fewer samples than dimensions.

    The empirical-Bayes ridge estimate that conditional activation transport uses, arXiv 2603.03163. I if the samples do
    not vary at all (Infinity's first scale has no noise).
    """
    size = len(covariance)
    eye = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    if not covariance.any():
        return eye
    return size * torch.linalg.inv((n - 1) * covariance + covariance.trace() * eye)


def prototype_direction(source: Tensor, target: Tensor, distance: Distance = "EUCLIDEAN") -> Tensor:
    """The gradient (D,) of half the difference of squared distances to both prototypes, scaled to |mu_target -
    mu_source|.

    Classes (n, D). EUCLIDEAN is the difference itself, MAHALANOBIS P (mu_target - mu_source): the discriminant
    direction. Zeros if the prototypes are equal, as those of the empty prompt are at the first step.
    """
    difference = target.mean(0) - source.mean(0)
    if distance == "EUCLIDEAN" or not difference.any():
        return difference
    turned = ridge_precision(pooled_covariance(source, target), len(source) + len(target)) @ difference
    return turned * (difference.norm() / turned.norm())


def unit_direction(positive: Tensor, negative: Tensor) -> Tensor:
    """The normalised difference (D,) of means of (n, D); zeros if it is no longer than 1e-8. CASteer, arXiv
    2503.09630."""
    difference = positive.mean(0) - negative.mean(0)
    length = difference.norm()
    return difference / length if length > 1e-8 else torch.zeros_like(difference)


def discriminant(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (2, D), biases (2,) of the Gaussian discriminant, target first: W = mu P, b = log 1/2 - mu P mu / 2.

    Classes (n, D).
    """
    precision = ridge_precision(pooled_covariance(target, source), len(source) + len(target))
    means = torch.stack([target.mean(0), source.mean(0)])
    weight = means @ precision
    return weight, torch.log(means.new_tensor(0.5)) - 0.5 * (weight * means).sum(1)


def source_posterior(pooled: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The probability (n,) that pooled activations (n, D) are the source class's, by a discriminant (2, D), (2,)."""
    return (pooled @ weight.T + bias).softmax(1)[:, 1]


def squared_distance(pooled: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """(x - mu) P (x - mu)^T of each row of (n, D), (n,)."""
    offset = pooled - mean
    return ((offset @ precision) * offset).sum(1)


def source_region(source: Tensor, quantile: float) -> dict[str, Tensor]:
    """Mean (D,) and precision (D, D) of the source samples (n, D), and the squared distance within which a share
    `quantile` of them lies."""
    mean, precision = source.mean(0), ridge_precision(pooled_covariance(source), len(source))
    limit = torch.quantile(squared_distance(source, mean, precision), quantile)
    return {"mean": mean, "precision": precision, "limit": limit}


def support(source: Tensor, low: float | None, high: float | None) -> Tensor:
    """The percentiles `low` and `high` of each neuron's source values (n, D), (2, D); -inf and inf if one is None."""
    if low is None or high is None:
        return torch.tensor(EVERYWHERE, dtype=source.dtype, device=source.device)[:, None].repeat(1, source.shape[1])
    return torch.quantile(source, source.new_tensor([low, high]) / 100, dim=0)


def linear_transport(source: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Weight and bias (D,) of the least squares fit of sorted target values on sorted source values, neuron by neuron.

    Linear-AcT, arXiv 2410.23054: sorting is the optimal coupling in one dimension. ValueError unless both classes have
    one shape (n, D).
    """
    if source.shape != target.shape:
        raise ValueError(f"linear transport needs equal samples, got {tuple(source.shape)} and {tuple(target.shape)}")
    a, b = source.double().sort(0).values, target.double().sort(0).values
    offset = a - a.mean(0)
    weight = (offset * (b - b.mean(0))).sum(0) / offset.square().sum(0).clamp_min(1e-30)
    return _cast({"weight": weight, "bias": b.mean(0) - weight * a.mean(0)}, source)


def gaussian_transport(source: Tensor, target: Tensor) -> dict[str, Tensor]:
    """sigma_target / sigma_source (h - mu_source) + mu_target of classes (n, D), as weight and bias (D,); unbiased."""
    a, b = source.double(), target.double()
    weight = b.std(0) / a.std(0).clamp_min(1e-30)
    return _cast({"weight": weight, "bias": b.mean(0) - weight * a.mean(0)}, source)


def mean_transport(source: Tensor, target: Tensor) -> dict[str, Tensor]:
    """h - mu_source + mu_target of classes (n, D), as weight 1 and bias (D,)."""
    bias = target.double().mean(0) - source.double().mean(0)
    return _cast({"weight": torch.ones_like(bias), "bias": bias}, source)


def lively(source: Tensor, target: Tensor, least: float = 1e-4) -> Tensor:
    """Which neurons (D,) deviate by more than `least` in both classes (n, D); the code moves no others by Gaussians."""
    return (source.std(0) > least) & (target.std(0) > least)


def _cast(tensors: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    return {name: value.to(like.dtype) for name, value in tensors.items()}
