"""Free rows before the words of a prompt, which an adversary of a method in training moves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.state import Condition
from stages.methods.shared.adversary import Adversary
from stages.methods.shared.free_tokens import Reader


class Prefix(Adversary):
    """K free rows (K, D), started from random ones and moved by Adam or by signs of gradients."""

    def __init__(self, rows: Tensor, lr: float, signed: bool) -> None:
        super().__init__(rows.clone(), lr, signed=signed)

    @abstractmethod
    def before(self, prompt: str, *, moving: bool = True) -> Condition:
        """The condition, of one row, of a prompt after the free rows, as text encoders are now; gradients reach the
        rows if they are `moving`."""

    @abstractmethod
    def random(self, draws: torch.Generator) -> list[int]:
        """The numbers of K random rows."""

    @abstractmethod
    def begin(self, numbers: Sequence[int]) -> None:
        """Starts again from the rows of these numbers."""

    def _placed(self, rows: Tensor) -> None:
        with torch.no_grad():
            self.values.copy_(rows)
        self.rest()

    def _rows(self, moving: bool) -> Tensor:
        return self.values if moving else self.values.detach()


class Words(Prefix):
    """Rows of token embeddings, before a prompt's first word: D is the widths of all encoders that read them.

    An encoder with another vocabulary reads the tokens that the rows started from. ValueError for a backbone that
    `Reader` refuses.
    """

    def __init__(self, backbone: Backbone, many: int, lr: float, signed: bool) -> None:
        self.reader = Reader(backbone)
        self.widths = [self.reader.tables[part].shape[1] for part in self.reader.parts]
        self.ids = [0] * many
        super().__init__(self._embedded(self.ids), lr, signed)

    def before(self, prompt: str, *, moving: bool = True) -> Condition:
        """The condition, of one row, of a prompt after the free rows, as text encoders are now."""
        parts = self._rows(moving)[None].split(self.widths, -1)
        said = self.reader.said(self.ids, prompt)
        return self.reader.beside(dict(zip(self.reader.parts, parts, strict=True)), prompt, "prefix_k", said)

    def random(self, draws: torch.Generator) -> list[int]:
        """The ids of K random tokens of the vocabulary."""
        return torch.randint(len(self.reader.tokenizer), (len(self.ids),), generator=draws).tolist()

    def begin(self, numbers: Sequence[int]) -> None:
        """Starts again from the embeddings of these tokens."""
        self.ids = list(numbers)
        self._placed(self._embedded(self.ids))

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        return torch.cat([self.reader.tables[part][list(ids)] for part in self.reader.parts], -1)

    def state_dict(self) -> dict[str, Any]:
        """Values, optimizer, and the tokens that they started from."""
        return super().state_dict() | {"ids": self.ids}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.ids = list(state["ids"])
        super().load_state_dict(state)


class Encoded(Prefix):
    """Rows of encoded text, after its first: for text encoders that read a prompt inside a longer text.

    They start from rows of `known` (B, L, D), encoded prompts.
    """

    def __init__(self, backbone: Backbone, known: Tensor, many: int, lr: float, signed: bool) -> None:
        self.backbone, self.known = backbone, known.flatten(0, 1).float()
        super().__init__(self.known[:many], lr, signed)

    def before(self, prompt: str, *, moving: bool = True) -> Condition:
        """The condition, of one row, of a prompt with the free rows after its first; its last rows are cut off."""
        condition = self.backbone.encode([prompt])
        embeds, rows = condition.tensors["embeds"], self._rows(moving)[None]
        new = {"embeds": torch.cat([embeds[:, :1], rows.to(embeds), embeds[:, 1 : embeds.shape[1] - rows.shape[1]]], 1)}
        if (mask := condition.tensors.get("mask")) is not None:
            read = torch.ones_like(mask[:, :1]).expand(-1, rows.shape[1])
            new["mask"] = torch.cat([mask[:, :1], read, mask[:, 1 : mask.shape[1] - rows.shape[1]]], 1)
        return condition.with_tensors(**new)

    def random(self, draws: torch.Generator) -> list[int]:
        """The numbers of K random rows of the known prompts."""
        return torch.randint(len(self.known), (len(self.values),), generator=draws).tolist()

    def begin(self, numbers: Sequence[int]) -> None:
        """Starts again from these rows."""
        self._placed(self.known[list(numbers)])
