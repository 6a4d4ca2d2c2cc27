"""What a sampler makes of its predictions."""

from __future__ import annotations

from torch import Tensor


def guide(uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, arXiv 2207.12598 eq. 6 in diffusers' parametrisation."""
    return uncond + scale * (cond - uncond)
