"""A concept's own words, and the words of its neutral twins that stand in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stages.backbones.core.base import Backbone
from stages.control.mentions import mentions
from stages.params.concept import Concept, replaced_words


def check_prompts(backbone: Backbone) -> None:
    """ValueError for a backbone that reads no prompts, which cannot be reworded."""
    if not backbone.texts.names:
        raise ValueError(f"{backbone.name} knows classes, and has no prompts to reword")


def own_words(concept: Concept, *, synonyms: bool = False) -> tuple[str, ...]:
    """The words that name the concept, and its synonyms if asked; ValueError if no prompt has any of the words."""
    words = concept.called()
    if not any(mentions(prompt, words) for prompt in concept.prompts):
        said = f"its words {list(words)} stand in none of its prompts" if words else "nothing says its words"
        raise ValueError(f"concept {concept.name}: {said}; name them in `words`")
    return (*words, *concept.synonyms) if synonyms else words


def stand_ins(concept: Concept, words: Sequence[str]) -> dict[str, str]:
    """For each word the phrase that neutral twins have in its place, "" for none.

    Words that stand in no prompt, such as synonyms, get the most frequent one. ValueError if every twin has the words,
    too.
    """
    said = {word: phrase for word in words if (phrase := _stand_in(concept, word)) is not None}
    if not said:
        raise ValueError(f"concept {concept.name}: its prompts and their neutral twins differ in none of its words")
    usual = Counter(said.values()).most_common(1)[0][0]
    return {word: said.get(word, usual) for word in words}


def _stand_in(concept: Concept, word: str) -> str | None:
    """What twins have for a word: of the phrases that name it, the one with the fewest other words decides."""
    pairs = [pair for pair in concept.pairs() if mentions(pair[0], [word]) and not mentions(pair[1], [word])]
    phrases = {old: new for old, new in replaced_words(pairs).items() if mentions(old, [word])}
    return phrases[min(phrases, key=lambda phrase: len(phrase.split()))] if phrases else None
