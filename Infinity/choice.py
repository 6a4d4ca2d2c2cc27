"""Choose bits from their margins: top-k, top-p and the exponential race, one generator per picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# noise(scale, (B, n, bits)): Exponential(1) draws (B, n, bits, 2)
Noise = Callable[[int, tuple[int, int, int]], Tensor]


def choose_bits(margins: Tensor, noise: Noise, scale: int, *, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """Bits (B, n, bits) bool of `margins` (B, n, bits); a bit is 1 with probability sigmoid(margin).

    Of the two values c the one with the larger p_c / noise_c wins. `top_k` and `top_p` are those of `Sampling`.
    """
    margins = margins.float()
    if top_k == 1:
        return margins > 0
    p = torch.sigmoid(torch.stack([-margins, margins], dim=-1))
    if top_p > 0:
        unlikely = (p <= 1 - top_p) & (p < p.flip(-1))
        p = p.masked_fill(unlikely, 0.0)
    batch, tokens, bits = margins.shape
    zero, one = (p / noise(scale, (batch, tokens, bits)).to(p.device)).unbind(-1)
    return one > zero


def seeded_noise(seeds: Sequence[int]) -> Noise:
    """One generator per picture, on the CPU, so that a picture depends on its own seed and on no device or batch."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(scale: int, shape: tuple[int, int, int]) -> Tensor:
        draws = [torch.empty(*shape[1:], 2).exponential_(generator=generator) for generator in generators]
        return torch.stack(draws)

    return noise


def shared_noise(seed: int) -> Noise:
    """One generator for the whole batch, in the order (picture, token, bit, value), as the authors' code draws."""
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: int, shape: tuple[int, int, int]) -> Tensor:
        return torch.empty(shape[0] * shape[1] * shape[2], 2).exponential_(generator=generator).view(*shape, 2)

    return noise
