"""Bitwise self-correction (arXiv 2412.04431, sec. 3.4): inputs with flipped bits, labels that correct them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .quantizer import binarize, bits_to_tokens, codes_of, codes_to_tokens, resize, shrink
from .schedules import Schedule

STRENGTH = 0.3  # largest share of a scale's bits that is flipped


@dataclass(frozen=True)
class Corrected:
    """Inputs and labels of one training step, for L tokens of n_0 in the first scale."""

    inputs: Tensor  # (B, L - n_0, bits) float32, for the transformer
    labels: Tensor  # (B, L, bits) uint8, 0 or 1
    fed_back: tuple[Tensor, ...]  # per scale (B, h, w, d) bool: the bits after flipping, which the inputs are made of


def draw_flips(
    schedule: Schedule,
    shape: tuple[int, int],
    generator: torch.Generator,
    *,
    strength: float = STRENGTH,
    scales: int | None = None,
    patchify: int = 1,
) -> list[Tensor]:
    """Masks (B, h, w, d) of the bits to flip, one per scale (only the first `scales`, if given), for `shape` = (B, d).

    The share of flipped bits is drawn evenly from 0, 0.01, ..., `strength` for each scale and is the same for the whole
    batch. ValueError for a `strength` outside 0 to 1.
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
    """Inputs and labels of encoder `features` (B, d, H, W).

    `flips` holds masks (B, h, w, d) for the first scales. A scale's label is the sign of the residual left by the
    coarser scales, their flipped bits included, so that it corrects them.
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
