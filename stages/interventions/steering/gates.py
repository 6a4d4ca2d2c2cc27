"""Gates of steering: which samples are steered."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stages.interventions.steering.maps import Tensors
from stages.objectives.statistics import discriminant, source_posterior, source_region, squared_distance

Gate = Literal["none", "nearest", "discriminant", "region"]


def gate_open(gate: Gate, pooled: Tensor, by: Tensors) -> Tensor:
    """Which samples (B,) of pooled activations (B, D) are steered.

    `nearest`: nearer to the source prototype than to the other; `discriminant`: the source's posterior reaches
    `threshold`; `region`: the distance to the source mean is within `limit`, whatever the other class is.
    """
    if gate == "nearest":
        return (pooled - by["source"]).norm(dim=1) <= (pooled - by["other"]).norm(dim=1)
    if gate == "discriminant":
        return source_posterior(pooled, by["gate_weight"], by["gate_bias"]) >= by["threshold"]
    if gate == "region":
        return squared_distance(pooled, by["mean"], by["precision"]) <= by["limit"]
    return torch.ones(len(pooled), dtype=torch.bool, device=pooled.device)


def opening(gate: Gate, pooled: Tensor, by: Tensors) -> Tensor:
    """How near each sample (B,) of pooled activations (B, D) is to being steered, in 0..1: from 1/2 on it is.

    As `gate_open` decides, but smooth, so that a search can follow it.
    """
    if gate == "nearest":
        return torch.sigmoid((pooled - by["other"]).norm(dim=1) - (pooled - by["source"]).norm(dim=1))
    if gate == "discriminant":
        posterior = source_posterior(pooled, by["gate_weight"], by["gate_bias"])
        return posterior / (posterior + by["threshold"]).clamp_min(1e-30)
    if gate == "region":
        return by["limit"] / (by["limit"] + squared_distance(pooled, by["mean"], by["precision"])).clamp_min(1e-30)
    return pooled.new_ones(len(pooled))


def gate_tensors(gate: Gate, source: Tensor, other: Tensor, threshold: float, quantile: float) -> dict[str, Tensor]:
    """A gate's tensors by name, from pooled activations (n, D) of the class to steer and of others."""
    if gate == "nearest":
        return {"source": source.mean(0), "other": other.mean(0)}
    if gate == "discriminant":
        weight, bias = discriminant(source, other)
        return {"gate_weight": weight, "gate_bias": bias, "threshold": source.new_tensor(threshold)}
    return source_region(source, quantile) if gate == "region" else {}
