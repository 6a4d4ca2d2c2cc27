"""Safe latent diffusion (arXiv 2211.05105): guidance away from the concept while sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.interventions.sld import Safety, SafetyGuidance
from stages.params.concept import Concept
from stages.params.types import Count, Departs, Fraction, Natural, Needs, NonNegative


@dataclass(frozen=True)
class SLD:
    """cond' = cond - mu (concept - uncond) - momentum, with mu = min(1, scale |cond - concept|) where cond - concept is
    below the threshold, element by element, else 0; arXiv 2211.05105 eq. 5-8. Nothing is trained.

    The defaults are the paper's `medium`.
    """

    DEPARTS: ClassVar[Departs] = {"agreement > 0": "agreement: {agreement}"}
    NEEDS: ClassVar[Needs] = {"momentum_beta": {"momentum_scale": True}, "warmup_of": {"warmup": True}}

    warmup: Natural = 10  # first steps without it, of a sampler of `warmup_of` steps; scaled to the backbone's
    warmup_of: Count = 50
    scale: NonNegative = 1000.0
    threshold: float = 0.01
    momentum_scale: NonNegative = 0.3
    momentum_beta: Fraction = 0.4
    # Multiplies mu, picture by picture, by this power of the cosine between the prompt's and the concept's direction.
    # The paper does not (0); a network of few colours then loses the others too.
    agreement: NonNegative = 0.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> SafetyGuidance:
        """Guidance away from the concept's first prompt."""
        warmup = round(self.warmup * backbone.calls(backbone.settings.steps) / self.warmup_of)
        numbers = (self.scale, self.threshold, self.momentum_scale, self.momentum_beta, self.agreement)
        return SafetyGuidance(concept.prompts[0], Safety(warmup, *numbers))
