"""Negative prompts: guidance away from the concept, nothing trained."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.interventions.guidance import PromptGuidance
from stages.params.concept import Concept
from stages.params.types import NonNegative


@dataclass
class NegativePrompt:
    """The sampler's unconditional prediction is replaced by that of the concept, mixed in by `strength`.

    Guidance g adds what both prompts say g times and takes it away g - 1 times, so that at strength 1 a concept that
    the prompt names stays; the unconditional prediction is reached at g / (g - 1), beyond it the concept is avoided.
    `agreement` weighs it, picture by picture, with a power of how alike the prompt's and the concept's directions are,
    which the usual form does without (0): a network that sees what it drew so far is else pushed off any colour that is
    not red.
    """

    strength: NonNegative = 1.0
    agreement: NonNegative = 0.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> PromptGuidance:
        """Guides away from the concept's first prompt."""
        return PromptGuidance(concept.prompts[0], self.strength, self.agreement)
