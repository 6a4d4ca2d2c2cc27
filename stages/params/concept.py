"""A concept: the prompts that show it, the same prompts without it, and prompts that must not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from stages.params import construct, load_params
from stages.params.types import Kind

PLACE = "{}"  # in a prompt: a member's name stands here
ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Concept:
    """What is erased, steered or learned, from params/concepts/<name>.yaml.

    `prompts[i]` shows the concept and `neutral[i]` is the same prompt without it; `retain` is unrelated.
    `dataset` and `target` say which prompts measure it and which label counts as seeing it: of several values of a
    label, the one that a prompt has. `aim` says whether it is to become rare (`erase`) or common (`learn`). A concept
    of several `members` has a prompt of each, and its neutral twin, for every prompt with `{}` in it.

        Concept("painters", ("a painting by {}",), ("a painting",), ("a photo",), members=("Van Gogh", "Monet"))
    """

    name: str
    prompts: tuple[str, ...]
    neutral: tuple[str, ...]
    retain: tuple[str, ...]
    dataset: str = ""
    target: dict[str, Any] = field(default_factory=dict)
    sensitive: bool = False
    aim: Literal["erase", "learn"] = "erase"
    words: tuple[str, ...] = ()  # that name it, in the singular; empty: its members, or the words twins lack
    synonyms: tuple[str, ...] = ()  # other words that mean it: measured, and therefore erased only if asked for
    members: tuple[str, ...] = ()  # names of the concepts that are one here
    kind: Kind | Literal[""] = ""  # methods may be tuned for concepts of a kind; empty: what is for all of them

    def __post_init__(self) -> None:
        for name in ("prompts", "neutral", "retain"):
            if not getattr(self, name):
                raise ValueError(f"concept {self.name}: {name} must not be empty")
        if len(self.neutral) not in (1, len(self.prompts)):
            raise ValueError(
                f"concept {self.name}: neutral must have one prompt, or one for each of the "
                f"{len(self.prompts)} concept prompts, got {len(self.neutral)}"
            )
        for name in ("words", "synonyms", "members"):
            if not all(word.strip() for word in getattr(self, name)):
                raise ValueError(f"concept {self.name}: {name} has an empty entry")
        self._expand()

    def _expand(self) -> None:
        """Writes every member into the prompts; once they are written out this changes nothing."""
        if any(PLACE in prompt for prompt in self.prompts):
            if not self.members:
                raise ValueError(f"concept {self.name}: a prompt has {PLACE}, and no members stand there")
            twins = list(_written_out(self.pairs(), self.members))
            object.__setattr__(self, "prompts", tuple(prompt for prompt, _ in twins))
            object.__setattr__(self, "neutral", tuple(neutral for _, neutral in twins))
        absent = [name for name in self.members if not any(name in prompt for prompt in self.prompts)]
        if absent:
            raise ValueError(f"concept {self.name}: no prompt has the member {absent[0]!r}, nor {PLACE} for it")

    def pairs(self) -> list[tuple[str, str]]:
        """Each concept prompt with its neutral twin."""
        neutral = self.neutral * len(self.prompts) if len(self.neutral) == 1 else self.neutral
        return list(zip(self.prompts, neutral, strict=True))

    def called(self, pairs: Sequence[tuple[str, str]] = ()) -> tuple[str, ...]:
        """The words that name the concept: `words`, or its members, or those that only the first texts of pairs have.

        The concept's own pairs unless others are given. Articles are never among the words. Empty if the texts of all
        pairs are equal.
        """
        return self.words or self.members or tuple(replaced_words(pairs or self.pairs()))


def values(wanted: str | Sequence[str]) -> tuple[str, ...]:
    """The values of a target's label: one, or each of several concepts that are one here."""
    return (wanted,) if isinstance(wanted, str) else tuple(wanted)


def replaced_words(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Phrases of first texts and the phrase of the second that stands in their place ("" for none), without articles.

    Of several in the place of one phrase the most frequent counts, and the first among equals.
    """
    places: dict[str, Counter[str]] = {}
    for first, second in pairs:
        before, after = first.split(), second.split()
        ours, theirs = ([word.lower() for word in words] for words in (before, after))
        for tag, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
            phrase = without_articles(before[a:b])
            if tag != "equal" and phrase:
                places.setdefault(phrase, Counter())[without_articles(after[c:d])] += 1
    return {phrase: counts.most_common(1)[0][0] for phrase, counts in places.items()}


def without_articles(words: Sequence[str]) -> str:
    """The words as one text, without the articles at their beginning and end and the signs around them."""
    words = [word.strip('.,;:!?"()') for word in words]
    while words and words[0].lower() in ARTICLES:
        words = words[1:]
    while words and words[-1].lower() in ARTICLES:
        words = words[:-1]
    return " ".join(words)


def _written_out(pairs: Iterable[tuple[str, str]], members: Sequence[str]) -> Iterator[tuple[str, str]]:
    for prompt, neutral in pairs:
        if PLACE not in prompt:
            yield prompt, neutral
        else:
            yield from ((prompt.replace(PLACE, name), neutral.replace(PLACE, name)) for name in members)


def load_concept(name: str, root: Path | str = "params") -> Concept:
    """The concept of params/concepts/<name>.yaml; ValueError names the file and key that is wrong."""
    content = load_params("concepts", name, root)
    if content.get("name", name) != name:
        raise ValueError(f"params/concepts/{name}.yaml: name must be {name!r}, got {content['name']!r}")
    return construct(Concept, {"name": name} | content, f"params/concepts/{name}.yaml")
