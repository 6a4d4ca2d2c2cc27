"""Circuit breakers' losses on representations (arXiv 2406.04313, Algorithm 1): pure functions of (..., L, D) states.

Values are per token; the means at the end average them. All is computed in float32, or in float64 for such states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["plain", "root", "relative"]


def coefficients(step: int, alpha: float, horizon: float) -> tuple[float, float]:
    """Weights of rerouting and retaining at a step counted from 1: alpha (1 - p), alpha p, with p = step / horizon.

    The released schedule has a horizon of twice the number of steps, so the two end up equal.
    """
    progress = step / horizon
    return alpha * (1 - progress), alpha * progress


def token_cosine(reference: Tensor, adapted: Tensor) -> Tensor:
    """The cosine between two states (..., L, D) of each token, (..., L)."""
    return (_unit(_wide(reference)) * _unit(_wide(adapted))).sum(-1)


def token_distance(reference: Tensor, adapted: Tensor, norm: Norm = "plain") -> Tensor:
    """||adapted - reference|| of each token, (..., L), of states (..., L, D); gradient 0 where they are equal.

    `root` divides by sqrt(D), `relative` by ||reference||, so that the value means the same in every network.
    """
    reference, adapted = _wide(reference), _wide(adapted)
    distance = torch.linalg.vector_norm(adapted - reference, dim=-1)
    if norm == "plain":
        return distance
    if norm == "root":
        return distance / reference.shape[-1] ** 0.5
    return distance / torch.linalg.vector_norm(reference, dim=-1).clamp_min(1e-12)


def centred(states: Tensor, centre: Tensor, lengths: Sequence[int]) -> Tensor:
    """States (..., L, D) minus the centre (..., S, D) of each token's scale; `lengths` are the tokens of the S
    scales."""
    spread = torch.repeat_interleave(centre, torch.tensor(list(lengths), device=centre.device), dim=-2)
    if spread.ndim < states.ndim:
        spread = spread.unsqueeze(-3)
    return _wide(states) - spread


def padded_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The released retain average of (..., L), a scalar: padding (mask 0) adds nothing to the sum but counts as
    tokens."""
    return (values * mask).mean()


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean, a scalar, of values (..., L) over the tokens of a mask, which broadcasts to them; None: over all."""
    if mask is None:
        return values.mean()
    weight = mask.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(1)


def scale_means(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """The token mean of each scale, (..., S), of values (..., L) whose tokens are ordered by scale."""
    return torch.stack([part.mean(-1) for part in values.split(list(lengths), dim=-1)], dim=-1)


def balanced_mean(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """The mean, a scalar, over scales of each scale's token mean of values (..., L).

    By tokens the last scale would count most, but a concept is decided in the coarse ones.
    """
    return scale_means(values, lengths).mean()


def _wide(states: Tensor) -> Tensor:
    return states if states.dtype == torch.float64 else states.float()


def _unit(states: Tensor) -> Tensor:
    return states / torch.linalg.vector_norm(states, dim=-1, keepdim=True).clamp_min(1e-12)
