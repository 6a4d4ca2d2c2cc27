"""VideoEraser's prompts (arXiv 2508.15314): words near a concept are projected away from it in a number of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from stages.interventions.safree import Course, Filter, Pool

if TYPE_CHECKING:
    from stages.backbones.core.base import Backbone, Condition


class Adjusted(Filter):
    """SAFREE's filter, for the same first `steps` of every prompt: selective prompt embedding adjustment."""

    ROLE = "adjusted"

    def __init__(self, words: Sequence[str], alpha: float, steps: int, pool: Pool = "last") -> None:
        super().__init__(words, alpha, Course(0.0, 0.0, 1.0), pool)
        self.steps = steps

    @property
    def gated(self) -> bool:
        """Not at 0 steps."""
        return self.steps > 0

    @contextmanager
    def attach(self, backbone: Backbone) -> Iterator[None]:
        """Edits guidance; does nothing at 0 steps."""
        with super().attach(backbone) if self.steps else nullcontext():
            yield

    @torch.no_grad()
    def filtered(self, backbone: Backbone, condition: Condition) -> tuple[Condition, list[int]]:
        """The condition with the concept projected out, and for how many first steps each of its rows is used."""
        found, _ = super().filtered(backbone, condition)
        return found, [self.steps] * len(found)

    def spec(self) -> dict[str, Any]:
        """Words and numbers."""
        return {"words": list(self.words), "alpha": self.alpha, "steps": self.steps, "pool": self.pool}

    @classmethod
    def restore(cls, tensors: Mapping[str, Any], spec: Mapping[str, Any]) -> Adjusted:
        """From what `spec` says."""
        return cls(**spec)
