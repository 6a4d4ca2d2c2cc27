"""Masks: gates that are zero or one with some probability, and the losses that train them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HARD = (0.83, -0.1, 1.1)  # the hard concrete distribution's temperature and the ends it is stretched to


def hard_concrete(score: Tensor, uniform: Tensor, noise: float = 0.5) -> Tensor:
    """A gate in [0, 1] that is exactly 0 or 1 with some probability: clamp(s (1.1 + 0.1) - 0.1, 0, 1), where
    s = sigmoid((log(u + noise) - log(1 - u + noise) + score) / 0.83), for scores and u in [0, 1) of any equal shape.

    arXiv 1712.01312 eq. 10-11 as masks use it, arXiv 2507.13386; at `noise` 0.5 the logistic noise is within +-log 3.
    """
    temperature, low, high = HARD
    logit = torch.log(uniform + noise) - torch.log(1 - uniform + noise)
    return (torch.sigmoid((logit + score) / temperature) * (high - low) + low).clamp(0, 1)


def open_probability(score: Tensor) -> Tensor:
    """The probability that a hard concrete gate is not 0: sigmoid(score - 0.83 log(0.1 / 1.1)); any shape.

    arXiv 1712.01312 eq. 12, for logistic noise that is not bounded.
    """
    temperature, low, high = HARD
    return torch.sigmoid(score - temperature * math.log(-low / high))


def masked(activation: Tensor, mask: Tensor, fill: Tensor | None = None) -> Tensor:
    """Channels (..., n k) times a mask (n,), each number for k channels in a row; a product of float32, cast back.

    `fill`, of the activation's shape, is mixed in as the mask closes: h m + fill (1 - m).
    """
    grouped = mask.unsqueeze(-1)
    value = activation.unflatten(-1, (len(mask), -1)) * grouped
    if fill is not None:
        value = value + fill.unflatten(-1, (len(mask), -1)) * (1 - grouped)
    return value.flatten(-2).to(activation.dtype)


def erase_and_preserve(final: Tensor, wanted: Tensor, erased: int, beta: float) -> Tensor:
    """MSE(final, wanted) over the first `erased` rows, which show the concept, + beta MSE over the rows to preserve: a
    scalar, of latents (B, ...).

    Minimalist concept erasure, arXiv 2507.13386: both terms are on the last latent of the whole sampler.
    """
    error = (final.float() - wanted.float()).square()
    value = error[:erased].mean()
    return value + beta * error[erased:].mean() if len(error) > erased else value


def keep_gap(shares: Tensor, keep: float) -> Tensor:
    """(mean share - keep)^2, a scalar: pulls the share (any shape) of open masks towards a target."""
    return (shares.mean() - keep).square()
