"""The word filter: the concept's words are taken out of the prompt. A reference that costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backbones.core.base import Backbone
from stages.control.mentions import are_nouns
from stages.interventions.rewording import Rewording
from stages.methods.shared.wording import check_prompts, own_words
from stages.params.concept import Concept


@dataclass(frozen=True)
class WordFilter:
    """The prompt without the concept's words, in any case, singular or plural, and without what hangs on them.

    An erasure of a network that is no better on synonyms has erased a word.
    """

    GATE: ClassVar[str] = "always"  # see stages.interventions.conditional

    synonyms: bool = False  # whether the concept's synonyms are taken out, too; they are measured as held out

    def fit(self, backbone: Backbone, concept: Concept, *, seed: int) -> Rewording:
        """The filter; ValueError if none of the concept's words stands in its prompts, or if no text is read."""
        check_prompts(backbone)
        words = own_words(concept, synonyms=self.synonyms)
        return Rewording(dict.fromkeys(words, ""), noun=are_nouns(words, concept.prompts))
