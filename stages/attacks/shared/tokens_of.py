"""The tokens of pictures, for families that predict bits."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Bits, Learns, needs


@torch.no_grad()
def picture_tokens(backbone: Backbone, pictures: Tensor) -> Tensor:
    """The tokens (n, L, bits) of pictures (n, 3, H, W); ValueError for a family that predicts no bits."""
    needs(backbone, Bits, "choose Infinity")
    learner = needs(backbone, Learns, "choose Infinity")
    state, _ = learner.examples(pictures, torch.Generator().manual_seed(0))
    assert state.final is not None
    return state.final
