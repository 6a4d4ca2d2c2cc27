"""Pictures of the concept that an attack aims by, drawn by the backbone as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.seeds import Purpose, hashed


@torch.no_grad()
def drawn_pictures(backbone: Backbone, prompts: Sequence[str], n: int, seed: int, what: str = "aim") -> Tensor:
    """n pictures (n, 3, H, W) or clips (n, F, 3, H, W) in [0, 1], of the prompts in turn.

    Drawn at the backbone's own steps and guidance. `what` tells apart those that an attack draws for two ends.
    """
    asked = [prompts[i % len(prompts)] for i in range(n)]
    noise = [hashed(Purpose.ATTACK, what, seed, i) for i in range(n)]
    steps, guidance = backbone.settings.steps, backbone.settings.guidance
    parts = [
        backbone.sample(backbone.encode(asked[rows]), seeds=noise[rows], steps=steps, guidance=guidance)
        for rows in backbone.settings.batches(n)
    ]
    return torch.cat(parts)
