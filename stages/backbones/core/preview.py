"""Pictures by a network in the midst of a training, which leave no trace in what is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.backbones.text.encoded import Encode, EncodedPrompts

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone

PICTURES = 4  # of the first prompts, a seed each


class Apart(EncodedPrompts):
    """Encodings that no cache on disk has or gets."""

    def stacked(self, texts: Sequence[str], encode: Encode, batch: int, open_cache: object) -> dict[str, Tensor]:
        """Tensors (B, ...) of some texts."""
        return super().stacked(texts, encode, batch, lambda: None)


@torch.no_grad()
def preview(backbone: Backbone, prompts: Iterable[str]) -> Tensor:
    """Pictures (N, 3, H, W) or clips (N, F, 3, H, W) of the first prompts, by the network as it is now.

    Encodings are made anew and forgotten: those at hand stay as they are, to the bit.
    """
    shown = list(dict.fromkeys(prompts))[:PICTURES]
    at_hand, backbone.encoded = backbone.encoded, Apart()
    try:
        with torch.random.fork_rng(devices=[]):
            return backbone.sample(
                backbone.encode(shown),
                seeds=range(len(shown)),
                steps=backbone.settings.steps,
                guidance=backbone.settings.guidance,
            )
    finally:
        backbone.encoded = at_hand
