"""What a sampler makes of its predictions."""

from __future__ import annotations

from torch import Tensor


def guide(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: uncond + scale (cond - uncond); any shape, all equal.

    arXiv 2207.12598 eq. 6 in diffusers' parametrisation, where scale 1 is the condition alone.
    """
    return uncond + scale * (cond - uncond)
