"""Guidance, and predictions pushed away from a concept."""

from __future__ import annotations

from torch import Tensor


def negative_guidance(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """The prediction pushed away from the concept: uncond - scale (cond - uncond); any shape, all equal.

    ESD, arXiv 2303.07345 eq. 7; linear, so it holds for eps, v, flow velocity and bit margins alike.
    """
    return uncond - scale * (cond - uncond)


def away(origin: Tensor, uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Any prediction pushed away from the concept: origin - scale (cond - uncond); any shape, all equal.

    ESD's released code has it, with the concept's own prediction as origin.
    """
    return origin - scale * (cond - uncond)
