"""Training losses: bits of the transformer, reconstruction and code usage of the tokenizer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .quantizer import Quantized
from .schedules import Schedule


def scale_weights(schedule: Schedule, *, reweight: bool, device: torch.device | str = "cpu") -> Tensor:
    """Weight of every token, (L,) float32, summing to 1: all equal, or with `reweight` 1 / sqrt(area of its scale)."""
    lengths = torch.tensor(schedule.lengths, dtype=torch.float64)
    per_scale = (lengths[-1] / lengths).sqrt() if reweight else torch.ones_like(lengths)
    weights = per_scale.repeat_interleave(torch.tensor(schedule.lengths))
    return (weights / weights.sum()).float().to(device)


def bitwise_loss(
    margins: Tensor,
    labels: Tensor,
    schedule: Schedule,
    *,
    reweight: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of bits, a scalar: mean over bits and batch, weighted over tokens by `scale_weights`.

    `margins` (B, L, bits) are logit1 - logit0, `labels` (B, L, bits) are 0 or 1 (or probabilities).
    """
    target = labels.float() * (1 - label_smoothing) + label_smoothing / 2
    per_token = F.binary_cross_entropy_with_logits(margins.float(), target, reduction="none").mean(-1)
    return (per_token @ scale_weights(schedule, reweight=reweight, device=margins.device)).mean()


def bit_accuracy(margins: Tensor, labels: Tensor, schedule: Schedule) -> Tensor:
    """Share of bits predicted correctly at each scale, (scales,), of `margins` and `labels` (B, L, bits)."""
    right = ((margins > 0) == labels.bool()).float().mean((0, 2))
    return torch.stack([part.mean() for part in right.split(schedule.lengths)])


def entropy_penalty(unit: Tensor, *, inverse_temperature: float = 100.0) -> Tensor:
    """E[H(q)] - H(E[q]), a scalar, of the soft bits q of unit vectors (B, d, h, w) (arXiv 2406.07548).

    Both entropies are sums over bits, as if bits were independent, so memory grows with d and not with 2^d.
    """
    bits = unit.shape[1]
    p = torch.sigmoid(4 * inverse_temperature * unit.movedim(1, -1).reshape(-1, bits) / bits**0.5)
    return _entropy(p).sum(-1).mean() - _entropy(p.mean(0)).sum()


def code_loss(quantized: Quantized, *, commitment: float = 0.25, entropy: float = 0.1 / 100) -> Tensor:
    """Commitment (MSE of unit vector and code) and entropy penalty, weighted, mean over the scales; a scalar."""
    terms = [
        commitment * F.mse_loss(unit, code.detach()) + entropy * entropy_penalty(unit)
        for unit, code in zip(quantized.units, quantized.codes, strict=True)
    ]
    return torch.stack(terms).mean()


def tokenizer_loss(
    reconstruction: Tensor,
    image: Tensor,
    quantized: Quantized,
    *,
    absolute: float = 1.0,
    squared: float = 1.0,
    codes: float = 1.0,
) -> Tensor:
    """L1 and L2 error of `reconstruction` and `image` (B, 3, H, W) in [-1, 1], plus `code_loss`, weighted; a scalar."""
    error = absolute * F.l1_loss(reconstruction, image) + squared * F.mse_loss(reconstruction, image)
    return error + codes * code_loss(quantized)


def _entropy(p: Tensor) -> Tensor:
    return -(p * (p + 1e-8).log() + (1 - p) * (1 - p + 1e-8).log())
