"""Losses on the bit margins of Infinity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bit_cross_entropy(margins: Tensor, bits: Tensor) -> Tensor:
    """Cross-entropy of each bit b under its margin d = logit1 - logit0: log(1 + exp(-(2 b - 1) d)); any shape, all
    equal."""
    return -logsigmoid(margins * (2 * bits.to(margins.dtype) - 1))


def wrong_tokens(margins: Tensor, bits: Tensor, share: float = 0.25) -> Tensor:
    """Margins and bits (..., L, bits) to (..., L): 1 for tokens of which at least `share` of the bits are wrong, else
    0.

    A bit is wrong when its cross-entropy is above ln 2; the filter of S-VARE, arXiv 2509.22400.
    """
    wrong = margins.detach() * (2 * bits.to(margins.dtype) - 1) < 0
    return (wrong.to(margins.dtype).mean(-1) >= share).to(margins.dtype)


def filtered_cross_entropy(
    margins: Tensor, bits: Tensor, share: float = 0.25, *, scales: Sequence[int] | None = None, kept: bool = False
) -> Tensor:
    """Cross-entropy of the neutral picture's bits at tokens that the student gets wrong: a scalar of (B, L, bits).

    Divided by the full length L, arXiv 2509.22400 (filtered cross-entropy); `kept` divides by the number of such tokens
    instead, `scales` (tokens of each scale) weighs all scales alike.
    """
    keep = wrong_tokens(margins, bits, share)
    loss = bit_cross_entropy(margins, bits).mean(-1) * keep
    if scales is not None:
        return torch.stack([part.mean(-1) for part in loss.split(list(scales), dim=-1)]).mean()
    if kept:
        return (loss.sum(-1) / keep.sum(-1).clamp_min(1)).mean()
    return loss.mean()


def bit_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of each bit's two-way distribution, the mean over all bits; margins of any shape, both
    equal.

    The preservation loss of arXiv 2509.22400; the released code averages over both states of a bit and so has half.
    """
    probability = torch.sigmoid(teacher)
    one = logsigmoid(teacher) - logsigmoid(student)
    zero = logsigmoid(-teacher) - logsigmoid(-student)
    return (probability * one + (1 - probability) * zero).mean()
