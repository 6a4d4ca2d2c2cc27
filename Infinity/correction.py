"""Bitwise self-correction (arXiv 2412.04431, sec. 3.4): inputs with flipped bits, and labels that repair them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .quantizer import binarize, bits_to_tokens, codes_of, codes_to_tokens, resize, shrink
from .schedules import Schedule

STRENGTH = 0.3


@dataclass(frozen=True)
class Corrected:
    """Transformer inputs (B, L - first scale, bits), labels (B, L, bits) uint8, and the bits fed back at each scale."""

    inputs: Tensor
    labels: Tensor
    fed_back: tuple[Tensor, ...]


def draw_flips(
    schedule: Schedule,
    shape: tuple[int, int],
    generator: torch.Generator,
    *,
    strength: float = STRENGTH,
    scales: int | None = None,
    patchify: int = 1,
) -> list[Tensor]:
    """Masks (B, h, w, d) of bits to flip at the first `scales` scales, for `shape` = (B, d).

    Each scale flips a share drawn evenly from 0, 0.01, ..., `strength`, the same for the whole batch.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be 0 to 1, got {strength}")
    batch, bits = shape
    flips = []
    for grid in schedule.finer(patchify)[:scales]:
        share = int(torch.randint(round(strength * 100) + 1, (), generator=generator)) / 100
        flips.append(torch.rand(batch, *grid, bits, generator=generator) < share)
    return flips


@torch.no_grad()
def self_correct(features: Tensor, schedule: Schedule, flips: Sequence[Tensor] = (), *, patchify: int = 1) -> Corrected:
    """Inputs and labels from encoder `features` (B, d, H, W), flipping the bits in `flips` (one mask per coarse scale).

    Each scale's label is the binarised residual that remains after the mistakes of the scales before it.
    """
    grids = schedule.finer(patchify)
    features = features.float()
    summed = torch.zeros_like(features)
    inputs, labels, fed_back = [], [], []
    for index, grid in enumerate(grids):
        bits = binarize(shrink(features - summed, grid))[2]
        labels.append(bits_to_tokens(bits.to(torch.uint8), patchify))
        if index < len(flips):
            bits = bits ^ flips[index].to(bits.device)
        fed_back.append(bits)
        summed = summed + resize(codes_of(bits), grids[-1])
        if index + 1 < len(grids):
            inputs.append(codes_to_tokens(resize(summed, grids[index + 1]), patchify))
    empty = codes_to_tokens(summed, patchify)[:, :0]
    return Corrected(torch.cat([empty, *inputs], dim=1), torch.cat(labels, dim=1), tuple(fed_back))
