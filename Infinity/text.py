"""Text features of a batch of prompts, packed without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Text:
    """Features of B prompts, one after another without padding.

    >>> text = Text.of([features])  # one (tokens, channels) tensor per prompt

    ValueError if the lengths do not add up, or one is 0.
    """

    values: Tensor  # (sum of lengths, channels)
    lengths: tuple[int, ...]  # tokens of each prompt

    def __post_init__(self) -> None:
        if sum(self.lengths) != len(self.values) or min(self.lengths, default=0) < 1:
            raise ValueError(f"lengths {self.lengths} do not fit {len(self.values)} rows (each must be at least 1)")

    @classmethod
    def of(cls, prompts: Sequence[Tensor]) -> Text:
        """Joins one (tokens, channels) tensor per prompt."""
        return cls(torch.cat(list(prompts)), tuple(len(prompt) for prompt in prompts))

    @classmethod
    def join(cls, parts: Sequence[Text]) -> Text:
        """The prompts of all parts, in order."""
        return cls(torch.cat([part.values for part in parts]), sum((part.lengths for part in parts), ()))

    def __len__(self) -> int:
        return len(self.lengths)

    def prompts(self) -> tuple[Tensor, ...]:
        """One (tokens, channels) tensor per prompt."""
        return self.values.split(self.lengths)

    def select(self, rows: Sequence[int]) -> Text:
        """The prompts at `rows`, in that order."""
        parts = self.prompts()
        return Text.of([parts[row] for row in rows])

    def replace(self, values: Tensor) -> Text:
        """The same lengths with other `values` (sum of lengths, channels)."""
        return Text(values, self.lengths)

    def positions(self) -> Tensor:
        """Position of every token in its prompt, from 0, (sum of lengths,)."""
        return torch.cat([torch.arange(length) for length in self.lengths]).to(self.values.device)

    def padded(self) -> Tensor:
        """Values as (B, longest, channels), zeros behind each prompt's last token."""
        return pad_sequence(list(self.prompts()), batch_first=True)

    def mask(self) -> Tensor | None:
        """(B, 1, 1, longest), True for real tokens of `padded`; None if all prompts are equally long."""
        if len(set(self.lengths)) == 1:
            return None
        lengths = torch.tensor(self.lengths, device=self.values.device)
        return (torch.arange(max(self.lengths), device=self.values.device) < lengths[:, None])[:, None, None]

    def to(self, device: torch.device | str) -> Text:
        """The same text on `device`."""
        return Text(self.values.to(device), self.lengths)
