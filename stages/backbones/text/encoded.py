"""Prompts encoded once, at hand and on disk, and where each text encoder's tokens stand among the condition's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone
    from stages.backbones.text.cache import EmbeddingCache

AT_HAND = 512  # encoded prompts that stay on the device where a cache on disk has them all
TURN = 32  # prompts that text encoders read, at least, once they are brought from where they wait

Row = dict[str, Tensor]
Tokenize = Callable[[Sequence[str]], list[list[int]]]


class EncodedPrompts:
    """What a backbone's text encoders make of each prompt while nothing edits them; kept on disk where settings say.

    It belongs to one backbone and is given it at each call: a reference would keep a dropped backbone in memory.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}  # prompt -> its tensors, without the batch's dimension
        self.cache: EmbeddingCache | None = None

    def stacked(self, backbone: Backbone, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tensors (B, ...) of some prompts, of which those not met before are encoded."""
        missing = list(dict.fromkeys(text for text in texts if text not in self.rows))
        if missing:
            self.rows |= self._found(backbone, missing)
        rows = [self.rows[text] for text in texts]
        tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        while self.cache and len(self.rows) > AT_HAND:
            self.rows.pop(next(iter(self.rows)))
        return tensors

    @torch.no_grad()
    def _found(self, backbone: Backbone, texts: Sequence[str]) -> dict[str, Row]:
        """On disk or, a batch at a time, by the encoders."""
        self.cache = self.cache or _cache(backbone)
        found = self.cache.read(texts, backbone.device) if self.cache else {}
        missing = [text for text in texts if text not in found]
        for part in backbone.batches(len(missing), TURN if backbone.settings.offload != "none" else 1):
            tensors, batch = backbone._encode(missing[part]), enumerate(missing[part])
            new = {text: {name: value[row] for name, value in tensors.items()} for row, text in batch}
            if self.cache:
                self.cache.write(new)
            found |= new
        return found


def _cache(backbone: Backbone) -> EmbeddingCache | None:
    if backbone.settings.cache is None or not backbone.text_parts():
        return None
    from stages.backbones.text.cache import EmbeddingCache

    kind = f"{type(backbone).__name__} {backbone.text_length}"
    return EmbeddingCache(backbone.settings.cache, backbone.text_parts(), kind)


@dataclass(frozen=True)
class Segment:
    """One text encoder's tokens in the condition's `embeds`: the first, how many, and how prompts become them."""

    begin: int
    length: int
    tokenize: Tokenize


def segment(backbone: Backbone, encoder: str, tokens: int) -> Segment:
    """Where an encoder of `backbone.features()` stands in `tokens` rows of text."""
    starts = backbone.features()
    begin = starts[encoder]
    length = min((start for start in starts.values() if start > begin), default=tokens) - begin
    if begin == 0:
        return Segment(begin, length, backbone.tokenize)
    own = backbone.tokenizers()[encoder]
    return Segment(begin, length, lambda prompts: own(list(prompts), truncation=True, max_length=length).input_ids)
