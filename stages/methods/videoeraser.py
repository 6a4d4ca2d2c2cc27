"""VideoEraser (arXiv 2508.15314): clips without a concept, by adjusted prompts and guidance with a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.interventions.adjusted import Adjusted
from stages.interventions.base import Stack
from stages.interventions.safree import Pool
from stages.interventions.sld import Safety, SafetyGuidance
from stages.methods.shared.wording import own_words
from stages.params.concept import Concept
from stages.params.types import Count, Fraction, Natural, Needs, NonNegative


@dataclass(frozen=True)
class VideoEraser:
    """Two stages, nothing trained. Words that bring a prompt near the concept are projected out of its span in the
    first steps (SAFREE's, stages.interventions.safree). Then cond' = cond - mu (concept - uncond) - momentum at every
    step (SLD's, stages.interventions.sld), with the adjusted prompt's prediction as cond. arXiv 2508.15314.
    """

    GATE: ClassVar[str] = "adjust"  # see stages.interventions.conditional
    NEEDS: ClassVar[Needs] = {
        "alpha": {"adjust": True},
        "adjust_of": {"adjust": True},
        "pool": {"adjust": True},
        "warmup": {"scale": True},
        "warmup_of": {"warmup": True, "scale": True},
        "threshold": {"scale": True},
        "momentum_scale": {"scale": True},
        "momentum_beta": {"momentum_scale": True, "scale": True},
        "together": {"momentum_scale": True, "scale": True},
    }

    alpha: NonNegative = 0.01  # how much further than others a word must be from the concept's span; see SAFREE
    adjust: Natural = 13  # the first so many steps get the adjusted prompt ...
    adjust_of: Count = 50  # ... of a sampler of so many; scaled to the backbone's, at least one
    pool: Pool = "last"  # the vector that stands for a prompt: its last token's, or the mean
    synonyms: bool = False  # takes synonyms for the concept's words, too; they are measured as held out
    warmup: Natural = 0  # first steps without guidance away from the concept, of a sampler of `warmup_of` steps
    warmup_of: Count = 50
    scale: NonNegative = 1000.0  # w: how fast mu grows with the distance of both predictions
    threshold: float = 1.0  # theta: mu is 0 where cond - concept reaches it
    momentum_scale: NonNegative = 0.5
    momentum_beta: Fraction = 0.5
    together: bool = True  # all frames of a clip carry the mean of their momentum

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Stack:
        """Both stages; ValueError if prompts have no tokens, or if nothing says the concept's words."""
        backbone.texts.tokenize([""])
        words, calls = own_words(concept, synonyms=self.synonyms), backbone.calls(backbone.settings.steps)
        steps = max(1, round(self.adjust * calls / self.adjust_of)) if self.adjust else 0
        numbers = (self.scale, self.threshold, self.momentum_scale, self.momentum_beta)
        safety = Safety(round(self.warmup * calls / self.warmup_of), *numbers, together=self.together)
        return Stack(Adjusted(words, self.alpha, steps, self.pool), SafetyGuidance(", ".join(words), safety))
