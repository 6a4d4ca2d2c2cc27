"""Prompts encoded once: encodings kept at hand and, if the settings say so, on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stages.backbones.text.cache import EmbeddingCache

AT_HAND = 512  # at most so many encoded prompts stay on the device if all of them are cached on disk

Row = dict[str, Tensor]  # the tensors of one prompt, without the batch's dimension
Encode = Callable[[Sequence[str]], dict[str, Tensor]]  # texts to tensors (B, ...)


class EncodedPrompts:
    """The encodings of prompts by text encoders that nothing edits.

    The encoders are handed to each call: a reference to them would keep a dropped backbone in memory.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}  # prompt -> its tensors
        self.cache: EmbeddingCache | None = None

    def stacked(
        self, texts: Sequence[str], encode: Encode, batch: int, open_cache: Callable[[], EmbeddingCache | None]
    ) -> dict[str, Tensor]:
        """Tensors (B, ...) of some texts; those not met before are read from the cache or encoded, `batch` at a time.

        `open_cache` is asked the first time that a text is missing.
        """
        missing = list(dict.fromkeys(text for text in texts if text not in self.rows))
        if missing:
            self.cache = self.cache or open_cache()
            self.rows |= self._read_or_encode(missing, encode, batch)
        rows = [self.rows[text] for text in texts]
        tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        while self.cache and len(self.rows) > AT_HAND:
            self.rows.pop(next(iter(self.rows)))
        return tensors

    @torch.no_grad()
    def _read_or_encode(self, texts: Sequence[str], encode: Encode, batch: int) -> dict[str, Row]:
        rows = self.cache.read(texts) if self.cache else {}
        missing = [text for text in texts if text not in rows]
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            tensors = encode(part)
            new = {text: {name: value[row] for name, value in tensors.items()} for row, text in enumerate(part)}
            if self.cache:
                self.cache.write(new)
            rows |= new
        return rows
