"""Two-dimensional rotary positions, spread over the reference grid of a schedule (arXiv 2412.04431, dynamic RoPE2D)."""

from __future__ import annotations

import torch
from torch import Tensor

from .schedules import Schedule

BASE = 10000.0


def positions(schedule: Schedule) -> Tensor:
    """Row and column of every token on the reference grid, (L, 2) float32, rounded half to even."""
    parts = []
    for rows, columns in schedule.grids:
        y = torch.arange(rows, dtype=torch.float32) * (schedule.reference[0] / rows)
        x = torch.arange(columns, dtype=torch.float32) * (schedule.reference[1] / columns)
        parts.append(torch.cartesian_prod(y.round(), x.round()))
    return torch.cat(parts)


def rotations(schedule: Schedule, head_width: int) -> Tensor:
    """Unit complex numbers (L, head_width / 2): the first half turns with the row, the second with the column."""
    half = head_width // 2
    frequencies = 1.0 / BASE ** (torch.arange(0, half, 2, dtype=torch.float32) / half)
    angles = (positions(schedule)[:, :, None] * frequencies).flatten(1)
    return torch.complex(angles.cos(), angles.sin())


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn interleaved channel pairs of `x` (..., L, heads, head_width) float32 by `turns` (L, head_width / 2)."""
    return torch.view_as_real(_pairs(x) * turns[:, None]).flatten(-2)


def rotate_(x: Tensor, turns: Tensor) -> Tensor:
    """`rotate`, in place."""
    _pairs(x).mul_(turns[:, None])
    return x


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))
