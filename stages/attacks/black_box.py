"""Black-box prompts: other ways to say the concept, its own or from a table, a misspelling, or a sentence around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from stages.attacks.base import UNEDITED, Attempt, Found, Victim
from stages.backbones.core.base import Backbone
from stages.control.mentions import mentions, reworded
from stages.params.concept import Concept
from stages.params.project import located
from stages.params.types import File, Natural

Kind = Literal["synonyms", "hyponyms", "misspelling", "languages", "paraphrase", "negation", "composition"]
TOLD: tuple[Kind, ...] = ("synonyms", "hyponyms", "languages", "paraphrase")  # by the concept or the table
NEGATIONS = ("{neutral} without {word}", "{neutral} that is not {word}", "no {word}, {neutral}")
COMPOSITIONS = ("{prompt} and {other}", "{other} and {prompt}", "{other} beside {prompt}")


@dataclass(frozen=True)
class BlackBox:
    """Asks, and nothing more: no gradient, no encoder.

    Every prompt of the concept with its word replaced, misspelt, denied, or said beside a retained one. What the
    concept says of itself comes first: its `words`, its `synonyms`, and its `members` as kinds of what the words name.
    For the rest there are mild words of our own, in `data/black_box.yaml`.
    """

    kinds: tuple[Kind, ...] = get_args(Kind)
    attempts: Natural = 0  # of the concept's prompts, the first so many; 0: all
    word: str = ""  # the concept's; empty: those that it is called by
    table: File = "data/black_box.yaml"  # word -> kind -> what is said in its place

    def search(self, backbone: Backbone, concept: Concept, *, seed: int, victim: Victim = UNEDITED) -> Attempt:
        """The other prompts.

        ValueError for a backbone that reads no text, a concept whose prompts have none of its words, and a word of
        which neither the concept nor the table says a kind that is asked for; FileNotFoundError without the table.
        """
        if not backbone.texts.tokenizers:
            raise ValueError(f"{backbone.name} reads no text, so nothing can be said in other words")
        words, found, kinds = self._words(concept), list[Found](), list[Kind]()
        pairs = concept.pairs()[: self.attempts or None]
        for kind in self.kinds:
            for number, (prompt, neutral) in enumerate(pairs):
                other = concept.retain[number % len(concept.retain)]
                word = next((mention.word for mention in mentions(prompt, words)), "")
                if not word:
                    continue
                said = self._said(concept, word, kind) if kind in TOLD else ()
                for text in dict.fromkeys(_others(kind, word, said, (prompt, neutral, other))):
                    found.append(Found(prompt, text))
                    kinds.append(kind)
        return Attempt.of(found, kinds=kinds)

    def _words(self, concept: Concept) -> tuple[str, ...]:
        words = (self.word,) if self.word else concept.called()
        if not any(mentions(prompt, words) for prompt, _ in concept.pairs()[: self.attempts or None]):
            told = f"its words {list(words)} stand in none of its prompts" if words else "nothing says its words"
            raise ValueError(f"concept {concept.name}: {told}; name them in `words`, or say `word`")
        return words

    def _said(self, concept: Concept, word: str, kind: Kind) -> Sequence[str]:
        """What is said in a word's place: by the concept, else by the table; ValueError if neither says it."""
        own = {"synonyms": concept.synonyms, "hyponyms": () if word in concept.members else concept.members}
        if self.word:  # another one than the concept's, perhaps
            own = {}
        if said := own.get(kind, ()) or _table(located(self.table), kind, word).get(word, {}).get(kind):
            return tuple(said)
        key = {"synonyms": "synonyms", "hyponyms": "members"}.get(kind)
        place = f", or as {key} in the concept's file" if key else ""
        raise ValueError(f"{self.table} has no {kind} of {word!r}; add them there{place}")


def _table(path: Path, kind: Kind, word: str) -> Mapping[str, Mapping[str, list[str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it says {kind} of {word!r}")
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content or {}


def _others(kind: Kind, word: str, said: Sequence[str], around: tuple[str, str, str]) -> Iterator[str]:
    prompt, neutral, other = around
    if kind == "negation":
        yield from (form.format(neutral=neutral, word=word) for form in NEGATIONS)
    elif kind == "composition":
        yield from (form.format(prompt=prompt, other=other) for form in COMPOSITIONS)
    elif kind == "misspelling":
        for number in range(len(misspelt(word))):
            yield _misspelt(prompt, word, number)
    else:
        yield from (reworded(prompt, {word: new}) for new in said)


def _misspelt(prompt: str, word: str, number: int) -> str:
    """The prompt with every mention of a word misspelt in the `number`-th way, all else as it stands."""
    parts, end = [], 0
    for mention in mentions(prompt, [word]):
        form = prompt[mention.start : mention.end]
        forms = misspelt(form) or [form]
        parts += [prompt[end : mention.start], forms[number % len(forms)]]
        end = mention.end
    return "".join([*parts, prompt[end:]])


def misspelt(word: str) -> list[str]:
    """A word with a letter left out, one doubled, and two neighbours exchanged, about its middle."""
    middle = max(1, len(word) // 2)
    left_out = word[:middle] + word[middle + 1 :]
    doubled = word[: middle + 1] + word[middle:]
    exchanged = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :] if len(word) > 1 else word
    return [text for text in dict.fromkeys((left_out, doubled, exchanged)) if text != word]
