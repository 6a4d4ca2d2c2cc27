"""SAFREE (arXiv 2410.12761): words of a prompt that mean the concept are projected away from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.backbones.core.capabilities import Skips, needs
from stages.interventions.base import Intervention, Stack
from stages.interventions.guidance import PromptGuidance
from stages.interventions.safree import Course, Filter, Pool
from stages.methods.shared.wording import own_words
from stages.params.concept import Concept
from stages.params.types import Count, Needs, NonNegative, Rate


@dataclass(frozen=True)
class SAFREE:
    """p' = (I - P_C) P_I p for tokens p that mean the concept: into the span I of the prompt with one word left out at
    a time, then out of the span C of the concept's phrases; arXiv 2410.12761, in its code's order. Nothing is trained.

    Whole words are left out, where the code masks single tokens. A prompt of one word is projected if the word is the
    concept's; the code projects it whatever it is.
    """

    GATE: ClassVar[str] = "always"  # see stages.interventions.conditional
    NEEDS: ClassVar[Needs] = {"reattention": {"family": ("unet",)}}

    # A word counts as the concept if leaving it out takes the prompt (1 + alpha) times as far from the concept's span
    # as leaving out another word does on average. The first text encoder decides; all are projected, and pooled text.
    alpha: NonNegative = 0.01
    # The first 1 + round(gamma sigmoid(2 slope (10 z - midpoint))) steps get the projection, with z = 1 - the mean
    # cosine of a prompt's tokens and their projections; gamma is scaled from a sampler of `gamma_of` steps.
    gamma: Rate = 10.0
    gamma_of: Count = 50
    midpoint: float = 5.333  # 5.5 for artists, in the code
    slope: Rate = 2.5  # 3.5 for artists, in the code
    pool: Pool = "last"  # the vector that stands for a prompt: its last token's, or the mean
    synonyms: bool = False  # whether synonyms span the concept, too, beside its words; they are measured as held out
    # Re-attention of U-Nets: factors on low frequencies of skips that are stronger with the projection than without it,
    # of skips that join the widest layers and of those that join the next; null: none.
    reattention: tuple[NonNegative, NonNegative] | None = None
    negative: bool = False  # the code also guides away from the concept's phrases, instead of from the empty prompt

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Intervention:
        """The filter, with the negative prompt if asked; ValueError if prompts have no tokens, if nothing says the
        concept's words, or for re-attention without skips."""
        backbone.texts.tokenize([""])
        if self.reattention is not None:
            needs(backbone, Skips, "leave reattention out")
        words = own_words(concept, synonyms=self.synonyms)
        most = self.gamma * backbone.calls(backbone.settings.steps) / self.gamma_of
        course = Course(most, self.midpoint, self.slope)
        own = Filter(words, self.alpha, course, self.pool, self.reattention)
        return Stack(own, PromptGuidance(", ".join(words))) if self.negative else own
