"""Pure tensor functions, one per equation, each citing it."""

from __future__ import annotations

from torch import Tensor


def negative_guidance(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """The prediction pushed away from the concept: uncond - scale (cond - uncond).

    ESD, arXiv 2303.07345 eq. 7; linear, so it holds for eps, v, flow velocity and bit margins alike.
    """
    return uncond - scale * (cond - uncond)


def guide(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, arXiv 2207.12598 eq. 6 in diffusers' parametrisation."""
    return uncond + scale * (cond - uncond)
