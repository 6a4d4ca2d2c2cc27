"""SAFREE (arXiv 2410.12761): a prompt's words that mean the concept are projected away from it, nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

from stages.backbones.core.base import Backbone
from stages.interventions.safree import Filter, Pool
from stages.methods.flowedit import replacements
from stages.params.concept import Concept
from stages.params.types import Count, NonNegative


@dataclass
class SAFREE:
    """Projects what means the concept in the prompt's own text, for a number of first steps that it chooses itself.

    A word means the concept if the prompt without it is more than `alpha` further from the concept's span than without
    the other words; `words` span it (those that the concept's prompts have and their neutral twins lack). Its tokens in
    every text encoder, and pooled text, are projected out of that span and into that of the prompt without each of its
    words; the first encoder alone says which words mean the concept. The projection is used for the first gamma
    sigmoid(1 - cos(prompt, projection)) of `gamma_of` steps, scaled to the backbone's sampler. The paper's re-attention
    in Fourier space, which knows one U-Net's skips, is left out. Where an encoder writes a word into its neighbours, as
    small ones do most, the concept stays with these.
    """

    words: tuple[str, ...] = ()
    alpha: NonNegative = 0.01
    gamma: NonNegative = 10.0
    gamma_of: Count = 50
    pool: Pool = "last"

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Filter:
        """ValueError where prompts have no tokens, or where the concept's pairs do not say what its words are."""
        backbone.texts.tokenize([""])
        lasting = self.gamma * backbone.calls(backbone.settings.steps) / self.gamma_of
        return Filter(self.words or tuple(replacements(concept)), self.alpha, lasting, self.pool)
