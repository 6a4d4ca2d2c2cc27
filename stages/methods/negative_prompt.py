"""Negative prompts: guidance away from the concept, nothing trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.interventions.guidance import PromptGuidance
from stages.params.concept import Concept
from stages.params.types import Departs, Needs, NonNegative


@dataclass(frozen=True)
class NegativePrompt:
    """uncond' = uncond + strength (negative - uncond): guidance away from the concept; nothing is trained.

    At guidance g the prompt counts g times and the negative prompt -(g - 1) times. If the prompt names the concept,
    strength 1 leaves it in, g / (g - 1) cancels it, more pushes away.
    """

    DEPARTS: ClassVar[Departs] = {"strength > 1": "strength: {strength}", "agreement > 0": "agreement: {agreement}"}
    NEEDS: ClassVar[Needs] = {"agreement": {"strength": True}}

    strength: NonNegative = 1.0
    # Multiplies the strength, picture by picture, by this power of the cosine between the prompt's and the concept's
    # direction. At 0 (the usual form) pictures of other things are pushed as hard; a network that goes on from what it
    # drew before, as Infinity does from scale to scale, then loses other colours too.
    agreement: NonNegative = 0.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> PromptGuidance:
        """Guidance away from the concept's first prompt."""
        return PromptGuidance(concept.prompts[0], self.strength, self.agreement)
