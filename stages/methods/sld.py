"""Safe latent diffusion (arXiv 2211.05105): guidance away from the concept while sampling."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.interventions.sld import Safety, SafetyGuidance
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Natural, NonNegative


@dataclass
class SLD:
    """Takes the concept's own guidance out of the prompt's wherever the two agree, with momentum; trains nothing.

    `warmup` is counted in steps of a sampler of `warmup_of` steps and scaled to the backbone's. The defaults are the
    paper's `medium`. `agreement` weighs it, picture by picture, with a power of how alike the prompt's and the
    concept's directions are; the paper does without (0), and a network of few colours then loses the others too.
    """

    warmup: Natural = 10
    warmup_of: Count = 50
    scale: NonNegative = 1000.0
    threshold: float = 0.01
    momentum_scale: NonNegative = 0.3
    momentum_beta: Fraction = 0.4
    agreement: NonNegative = 0.0

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> SafetyGuidance:
        """Guides away from the concept's first prompt."""
        warmup = round(self.warmup * backbone.calls(backbone.settings.steps) / self.warmup_of)
        numbers = (self.scale, self.threshold, self.momentum_scale, self.momentum_beta, self.agreement)
        return SafetyGuidance(concept.prompts[0], Safety(warmup, *numbers))
