"""SAFREE (arXiv 2410.12761): words of a prompt that mean the concept are projected away from it."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.interventions.safree import Filter, Pool
from stages.methods.shared.wording import own_words
from stages.params.concept import Concept
from stages.params.types import Count, NonNegative


@dataclass(frozen=True)
class SAFREE:
    """p' = P_I (I - P_C) p for tokens p that mean the concept: out of the concept's span C, into the span I of the
    prompt with one word left out at a time; arXiv 2410.12761. Nothing is trained.

    The paper's re-attention in Fourier space, which knows one U-Net's skips, is left out.
    """

    # A word counts as the concept if leaving it out takes the prompt (1 + alpha) times as far from the concept's span
    # as leaving out another word does on average. The first text encoder decides; all are projected, and pooled text.
    alpha: NonNegative = 0.01
    gamma: NonNegative = 10.0  # the first gamma sigmoid(1 - cos(prompt, projection)) steps get the projection ...
    gamma_of: Count = 50  # ... of a sampler of so many steps; scaled to the backbone's
    pool: Pool = "last"  # the vector that stands for a prompt: its last token's, or the mean

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Filter:
        """The filter; ValueError if prompts have no tokens, or if nothing says the concept's words."""
        backbone.texts.tokenize([""])
        lasting = self.gamma * backbone.calls(backbone.settings.steps) / self.gamma_of
        return Filter(own_words(concept), self.alpha, lasting, self.pool)
