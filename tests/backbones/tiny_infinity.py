"""A tiny Infinity with random weights, every one of which matters."""

from __future__ import annotations

from typing import Any

import torch

from Infinity import Tokenizer, TokenizerConfig
from stages.backbones.core.base import Settings
from stages.backbones.infinity import InfinityBackbone
from stages.worlds.words import make_tokenizer

BUILD = {
    "scales": [1, 2, [2, 3], 4],
    "transformer": {"depth": 3, "width": 16, "heads": 2, "hidden": 24, "pool_heads": 2},
    "text_encoder": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
}


def make(patchify: int = 1, **settings: Any) -> InfinityBackbone:
    """The backbone; its pictures have 8 pixels."""
    given = {"path": "none", "family": "infinity", "steps": 4, "guidance": 3.0, "batch": 4, "pool": 2, "build": BUILD}
    sizes = {"base": 8, "multipliers": (1, 2), "stride": 2, "encoder_blocks": 1, "decoder_blocks": 1, "groups": 4}
    vae = Tokenizer(TokenizerConfig(6, patchify=patchify, **sizes), seed=3)
    made = InfinityBackbone.create("tiny", Settings(**given | settings), make_tokenizer(), vae, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.net.named_parameters():
        spread = 0.1 if "ada" in name or "norm" in name else 0.2
        parameter.data += spread * torch.randn(parameter.shape, generator=generator)
    return made
