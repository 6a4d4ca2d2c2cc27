"""Multi-scale residual binary spherical quantisation (arXiv 2412.04431, sec. 3.2; BSQ: arXiv 2406.07548).

At the tokenizer's grid, bits are (B, rows, columns, d) and codes (B, d, rows, columns); tokens are (B, n, d p^2), with
p x p cells in one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .schedules import Grid, Schedule


def binarize(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors and codes (B, d, h, w), and bits (B, h, w, d) bool, of `features` (B, d, h, w).

    A feature of 0 gives bit 0. Gradients of the codes pass straight through to the unit vectors.
    """
    unit = F.normalize(features.float(), dim=1, eps=1e-12)
    bits = unit > 0
    sign = torch.where(bits, 1.0, -1.0) / unit.shape[1] ** 0.5
    return unit, unit + (sign - unit).detach(), bits.permute(0, 2, 3, 1)


def codes_of(bits: Tensor) -> Tensor:
    """Codes +-1/sqrt(d), (B, d, h, w) float32, of `bits` (B, h, w, d)."""
    return (bits.permute(0, 3, 1, 2).float() * 2 - 1) / bits.shape[-1] ** 0.5


def resize(codes: Tensor, grid: Grid) -> Tensor:
    """Linear resizing without antialiasing, (B, d, h, w) to (B, d, *grid): how codes pass from scale to scale."""
    if tuple(codes.shape[-2:]) == tuple(grid):
        return codes
    return F.interpolate(codes, size=tuple(grid), mode="bilinear", align_corners=False)


def shrink(codes: Tensor, grid: Grid) -> Tensor:
    """Mean over areas, (B, d, h, w) to (B, d, *grid): how the encoder's residual is brought to a scale."""
    if tuple(codes.shape[-2:]) == tuple(grid):
        return codes
    return F.adaptive_avg_pool2d(codes, (grid[0], grid[1]))


def bits_to_tokens(bits: Tensor, patchify: int = 1) -> Tensor:
    """Bits (B, p h, p w, d) as token labels (B, h w, d p^2)."""
    return codes_to_tokens(bits.permute(0, 3, 1, 2), patchify)


def codes_to_tokens(codes: Tensor, patchify: int = 1) -> Tensor:
    """A map (B, d, p h, p w) as tokens (B, h w, d p^2), rows first; channel = d p^2 + dy p + dx."""
    return F.pixel_unshuffle(codes, patchify).flatten(2).transpose(1, 2)


def tokens_to_bits(tokens: Tensor, grid: Grid, patchify: int = 1) -> Tensor:
    """Bits (B, p h, p w, d) of tokens (B, h w, d p^2) on the transformer's `grid` (h, w)."""
    maps = tokens.transpose(1, 2).unflatten(2, tuple(grid))
    return F.pixel_shuffle(maps, patchify).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Quantized:
    """A quantised picture."""

    bits: tuple[Tensor, ...]  # per scale (B, h, w, d) bool
    summed: Tensor  # (B, d, H, W), the codes of all scales, for the decoder
    units: tuple[Tensor, ...]  # per scale (B, d, h, w), unit vectors before the sign is taken
    codes: tuple[Tensor, ...]  # per scale (B, d, h, w), straight-through


def quantize(features: Tensor, grids: Sequence[Grid]) -> Quantized:
    """Quantise `features` (B, d, H, W) scale by scale, each one the residual of the coarser ones.

    ValueError unless the last of `grids` is (H, W).
    """
    full = _full_grid(features, grids)
    residual, summed = features.float(), torch.zeros_like(features, dtype=torch.float32)
    bits, units, codes = [], [], []
    for grid in grids:
        unit, code, bit = binarize(shrink(residual, grid))
        filled = resize(code, full)
        residual, summed = residual - filled.detach(), summed + filled
        bits.append(bit)
        units.append(unit)
        codes.append(code)
    return Quantized(tuple(bits), summed, tuple(units), tuple(codes))


def sum_codes(bits: Sequence[Tensor], full: Grid) -> Tensor:
    """Summed codes (B, d, *full) of `bits`, one (B, h, w, d) per scale, for the decoder."""
    return sum((resize(codes_of(one), full) for one in bits[1:]), resize(codes_of(bits[0]), full))


def teacher_inputs(bits: Sequence[Tensor], schedule: Schedule, patchify: int = 1) -> Tensor:
    """Transformer inputs of all scales but the first, (B, L - n_0, d p^2), given `bits`, one (B, h, w, d) per scale.

    The first scale's n_0 tokens (one, in a published schedule) read the text and have no input.
    """
    grids = schedule.finer(patchify)
    summed, inputs = torch.zeros(()), []
    for index, grid in enumerate(grids[1:]):
        summed = summed + resize(codes_of(bits[index]), grids[-1])
        inputs.append(codes_to_tokens(resize(summed, grid), patchify))
    return torch.cat(inputs, dim=1) if inputs else codes_to_tokens(codes_of(bits[0]), patchify)[:, :0]


def _full_grid(features: Tensor, grids: Sequence[Grid]) -> Grid:
    full = grids[-1][0], grids[-1][1]
    if tuple(features.shape[-2:]) != full:
        raise ValueError(
            f"the picture gives a {features.shape[-2]} x {features.shape[-1]} grid, "
            f"but the schedule ends at {full[0]} x {full[1]}"
        )
    return full
