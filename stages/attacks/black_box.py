"""Black-box prompts: other ways to say the concept, from a table, a rule of spelling, or a sentence around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.backbones.core.base import Backbone
from stages.control.words import whole_word
from stages.params.concept import Concept
from stages.params.types import Natural

Kind = Literal["synonyms", "hyponyms", "misspelling", "languages", "paraphrase", "negation", "composition"]
TOLD: tuple[Kind, ...] = ("synonyms", "hyponyms", "languages", "paraphrase")  # kinds that need the table
NEGATIONS = ("{neutral} without {word}", "{neutral} that is not {word}", "no {word}, {neutral}")
COMPOSITIONS = ("{prompt} and {other}", "{other} and {prompt}", "{other} beside {prompt}")


@dataclass(frozen=True)
class BlackBox:
    """Asks, and nothing more: no gradient, no encoder. Mild words of our own, in `data/black_box.yaml`.

    Every prompt of the concept with its word replaced, misspelt, denied, or said beside a retained one.
    """

    kinds: tuple[Kind, ...] = get_args(Kind)
    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    word: str = ""  # the concept's; by default that which every prompt has and no neutral one
    table: str = "data/black_box.yaml"  # word -> kind -> what is said in its place

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """The other prompts.

        ValueError for a backbone that reads no text, a concept without one word, and a word that the table lacks.
        """
        if not backbone.texts.tokenizers:
            raise ValueError(f"{backbone.name} reads no text, so nothing can be said in other words")
        word = self.word or concept_word(concept)
        said, found, kinds = self._said(word), [], []
        pairs = concept.pairs()[: self.attempts or None]
        for kind in self.kinds:
            for number, (prompt, neutral) in enumerate(pairs):
                other = concept.retain[number % len(concept.retain)]
                for text in dict.fromkeys(_others(kind, word, said.get(kind, ()), (prompt, neutral, other))):
                    found.append(Found(prompt, text))
                    kinds.append(kind)
        return Attempt.of(found, kinds=kinds)

    def _said(self, word: str) -> Mapping[Kind, list[str]]:
        """What the table has for the word; ValueError if it lacks a kind that is asked for."""
        wanted = [kind for kind in self.kinds if kind in TOLD]
        if not wanted:
            return {}
        path = Path(self.table)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: it says {', '.join(wanted)} of {word!r}")
        said = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(word, {})
        if missing := [kind for kind in wanted if not said.get(kind)]:
            raise ValueError(f"{path} has no {missing[0]} of {word!r}; add them there")
        return said


def concept_word(concept: Concept) -> str:
    """The words, in order, that every prompt has and no neutral one; ValueError if there are none."""
    sides = [[re.findall(r"[\w'-]+", text) for text in side] for side in (concept.prompts, concept.neutral)]
    spoken = {word for words in sides[1] for word in words}
    own = [word for word in sides[0][0] if word not in spoken and all(word in words for words in sides[0])]
    if not own:
        raise ValueError(f"concept {concept.name}: no word is in all its prompts and in no neutral one; say `word`")
    return " ".join(own)


def _others(kind: Kind, word: str, said: tuple[str, ...] | list[str], around: tuple[str, str, str]) -> list[str]:
    prompt, neutral, other = around
    if kind == "negation":
        return [form.format(neutral=neutral, word=word) for form in NEGATIONS]
    if kind == "composition":
        return [form.format(prompt=prompt, other=other) for form in COMPOSITIONS]
    replacements = misspelt(word) if kind == "misspelling" else said
    return [new.join(re.split(whole_word(word), prompt)) for new in replacements]


def misspelt(word: str) -> list[str]:
    """A word with a letter left out, one doubled, and two neighbours exchanged, about its middle."""
    middle = max(1, len(word) // 2)
    left_out = word[:middle] + word[middle + 1 :]
    doubled = word[: middle + 1] + word[middle:]
    exchanged = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :] if len(word) > 1 else word
    return [text for text in dict.fromkeys((left_out, doubled, exchanged)) if text != word]
