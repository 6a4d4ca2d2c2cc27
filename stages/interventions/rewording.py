"""Prompts reworded before they are encoded: the concept's words left out, or others in their place."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.control.edits import edit_condition
from stages.control.mentions import reworded, without
from stages.interventions.conditional import Conditional

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone


class Rewording(Conditional):
    """Every prompt with other words for some; the network stays as it is.

    `words` maps each word to what takes its place, "" for nothing; with `noun` what cannot stand without the left-out
    word goes, too. See stages.control.mentions.
    """

    def __init__(self, words: Mapping[str, str], *, noun: bool) -> None:
        super().__init__()
        self.words, self.noun = dict(words), noun

    @property
    def keywords(self) -> tuple[str, ...]:
        """The words that it knows."""
        return tuple(self.words)

    def attach(self, backbone: Backbone) -> AbstractContextManager[None]:
        """Rewords every prompt that is encoded while open."""
        return edit_condition(backbone, rewrite=self.of)

    def of(self, prompt: str) -> str:
        """A prompt in other words."""
        absent = [word for word, new in self.words.items() if not new]
        shorter = without(prompt, absent, noun=self.noun)
        other = reworded(shorter, {word: new for word, new in self.words.items() if new})
        self._tell(torch.tensor([float(other != prompt)]))
        return other

    def spec(self) -> dict[str, Any]:
        """The words."""
        return {"words": self.words, "noun": self.noun}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Rewording:
        """From what `spec` says."""
        return cls(spec["words"], noun=spec["noun"])
