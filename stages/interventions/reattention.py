"""SAFREE's latent re-attention (arXiv 2410.12761): low frequencies of a U-Net's skips, weakened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.backbones.core.capabilities import Skips, needs
from stages.control.edits import edit_activations
from stages.control.sites import Edit, Moment, Site, Tap

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

LOW = [-1, 0]  # the rows and columns of a spectrum that count as low, those around its centre once it is shifted


@contextmanager
def reattend(backbone: Backbone, scales: tuple[float, float], role: str) -> Iterator[None]:
    """While open, skips of the rows of `role` lose a share of low frequencies that are stronger than those of `cond`.

    `scales` are factors on them: of the skips that join the widest layers, and of those that join the next ones; others
    stay. ValueError for a network without skips.
    """
    factors = factors_of(needs(backbone, Skips, "leave reattention out").skips(), scales)
    edits: dict[Site | Tap, Edit] = {
        Tap(path, "input"): partial(_edit, before=before, scale=factor, role=role)
        for path, (before, factor) in factors.items()
    }
    with edit_activations(backbone, edits):
        yield


def factors_of(skips: Mapping[str, int], scales: tuple[float, float]) -> dict[str, tuple[int, float]]:
    """Layers that are filtered: the channels before the skip's (1280 and 640 of Stable Diffusion) and the factor."""
    widest = dict(zip(sorted(set(skips.values()), reverse=True), scales, strict=False))
    return {path: (before, widest[before]) for path, before in skips.items() if before in widest}


def attenuated(skips: Tensor, plain: Tensor, scale: float) -> Tensor:
    """Skips (B, C, h, w) times `scale` at the low frequencies where they are stronger than `plain`, of that shape.

    The real part of s F where |F| > |F_plain|, of F elsewhere; arXiv 2410.12761, latent re-attention.
    """
    spectrum, other = (torch.fft.fft2(value.float()) for value in (skips, plain))
    change = torch.zeros_like(spectrum)
    for row in LOW:
        for column in LOW:
            ours, theirs = spectrum[..., row, column], other[..., row, column]
            stronger = ours.abs() > theirs.abs()
            change[..., row, column] = torch.where(stronger, (scale - 1) * ours, torch.zeros_like(ours))
    return skips + torch.fft.ifft2(change).real.to(skips)


def _edit(value: Tensor, at: Moment, *, before: int, scale: float, role: str) -> Tensor:
    rows, plain = at.rows(role), at.rows("cond")
    if rows == slice(0, 0) or plain == slice(0, 0):
        return value
    edited = value.clone()
    edited[rows, before:] = attenuated(value[rows, before:], value[plain, before:], scale)
    return edited
