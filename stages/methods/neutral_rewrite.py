"""The neutral rewrite: the words of the neutral twin in the place of the concept's. A reference that costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.control.mentions import are_nouns
from stages.interventions.rewording import Rewording
from stages.methods.shared.wording import check_prompts, own_words, stand_ins
from stages.params.concept import Concept


@dataclass(frozen=True)
class NeutralRewrite:
    """The prompt with what neutral twins say for the concept's words, in any case, singular or plural.

    "Two dogs" become "two animals". What a prompt filter that knows the concept can do at best.
    """

    GATE: ClassVar[str] = "always"  # see stages.interventions.conditional

    synonyms: bool = False  # whether the concept's synonyms are replaced, too; they are measured as held out

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Rewording:
        """The rewriting; ValueError if none of the concept's words stands in its prompts, or if all twins have them."""
        check_prompts(backbone)
        words = own_words(concept, synonyms=self.synonyms)
        return Rewording(stand_ins(concept, words), noun=are_nouns(words, concept.prompts))
