"""Negative prompts: guidance away from the concept, nothing trained."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.base import Backbone
from stages.concept import Concept
from stages.fields import Fraction
from stages.interventions.guidance import NegativePrompt as Negative


@dataclass
class NegativePrompt:
    """The sampler's unconditional prediction is replaced by that of the concept, mixed in by `strength`."""

    strength: Fraction = 1.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Negative:
        """Guides away from the concept's first prompt."""
        return Negative(concept.prompts[0], self.strength)
