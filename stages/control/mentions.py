"""A concept's words in prompts: where they stand, and prompts with other words in their place or none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from stages.control.words import whole_word

IRREGULAR = {
    **{"man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice", "goose": "geese"},
    **{"foot": "feet", "tooth": "teeth", "wolf": "wolves", "leaf": "leaves", "knife": "knives", "wife": "wives"},
    **{"sheep": "sheep", "fish": "fish", "deer": "deer"},
}
# words that go when the noun after them goes
COUNTED = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "several", "many", "some", "both")
OWNED = ("my", "your", "his", "her", "its", "our", "their", "this", "that", "these", "those", "one", "another", "each")
BEFORE = ("a", "an", "the", *COUNTED, *OWNED)
JOINING = ("of", "by", "with", "and", "or", "like", "as", "featuring", "showing", "depicting")
OWNING = re.compile(r"['’]s?(?!\w)")  # behind a noun that owns
SILENT = re.compile(r"(?:[aei]|o(?!ne\b|nce)|u(?!ni|se|ro)|hour|heir|honest)", re.IGNORECASE)  # words that follow `an`


@dataclass(frozen=True)
class Mention:
    """One place where a text names a concept."""

    start: int  # of its characters
    end: int
    word: str  # as the concept calls it
    plural: bool


def mentions(text: str, words: Iterable[str]) -> list[Mention]:
    """Where any of the words stands in a text as a whole word, in any case, singular or plural, the longest first.

    Places do not overlap and come in order. White space in a word matches any run of it.
    """
    names = _names(tuple(words))
    if not names:
        return []
    found = _pattern(tuple(names)).finditer(text)
    return [Mention(*match.span(), *names[" ".join(match[0].lower().split())]) for match in found]


def plural(word: str) -> str:
    """The English plural of a word, or of the last word of a phrase, in the case it has."""
    head, space, last = word.rpartition(" ")
    if last.lower() in IRREGULAR:
        form = IRREGULAR[last.lower()]
        return f"{head}{space}{form.capitalize() if last[:1].isupper() else form}"
    if re.search(r"(?:s|x|z|ch|sh)$", last, re.IGNORECASE):
        return f"{word}es"
    if re.search(r"[^aeiou]y$", last, re.IGNORECASE):
        return f"{word[:-1]}ies"
    return f"{word}s"


def reworded(text: str, places: Mapping[str, str]) -> str:
    """The text with every mention of a word replaced by what `places` has for it, a plural by a plural.

    An article before it becomes `a` or `an` as the new word wants; "" leaves the word out and all else in place. White
    space closes up in a text that changes.
    """
    parts, end = [], 0
    for mention in mentions(text, places):
        new = places[mention.word]
        parts += [text[end : mention.start], _cased(text, mention, plural(new) if mention.plural and new else new)]
        end = mention.end
        parts[-2:] = [_with_article(parts[-2], parts[-1] or text[end:].lstrip(), text[end:]), parts[-1]]
    return _closed("".join([*parts, text[end:]])) if parts else text


def without(text: str, words: Sequence[str], *, noun: bool) -> str:
    """The text without the words, and without what cannot stand without them.

    With a noun go its article, number or owner, and the preposition or conjunction that tied it to the text before: "a
    photo of a dog asleep" becomes "a photo asleep". Other words leave them: "an orange ring" becomes "a ring".
    """
    if not noun:
        return reworded(text, dict.fromkeys(words, ""))
    parts, end = [], 0
    for mention in mentions(text, words):
        kept = _without_last(_without_last(text[end : mention.start], BEFORE), JOINING)
        parts.append(kept)
        owned = OWNING.match(text, mention.end)
        end = owned.end() if owned else mention.end
    if not parts:
        return text
    rest = _closed("".join([*parts, " ", text[end:]]))
    return _closed(re.sub(rf"^(?:(?:{'|'.join(JOINING)})\b|[,;:.])\s*", "", rest, flags=re.IGNORECASE))


def are_nouns(words: Sequence[str], texts: Iterable[str]) -> bool:
    """Whether the words stand for a thing, as texts use them: they end a text or a clause, or a preposition follows."""
    follows = re.compile(r"\s*(?:$|[.,;:!?]|(?:of|in|on|at|with|by|and|under|near)\b)", re.IGNORECASE)
    return any(follows.match(text, mention.end) for text in texts for mention in mentions(text, words))


@cache
def _names(words: tuple[str, ...]) -> dict[str, tuple[str, bool]]:
    """Every form of every word, in small letters, and the word it is of and whether it is the plural."""
    names: dict[str, tuple[str, bool]] = {}
    for many in (False, True):
        for word in words:
            names.setdefault(" ".join((plural(word) if many else word).lower().split()), (word, many))
    return names


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(whole_word(name, any_space=True) for name in ordered), re.IGNORECASE)


def _cased(text: str, mention: Mention, new: str) -> str:
    """The new word in capitals, or with one first, if the old one stands so in the text and not in the concept."""
    old = text[mention.start : mention.end]
    if old.isupper() and len(old) > 1 and not mention.word.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[0].isupper() and not mention.word[:1].isupper() else new


def _with_article(before: str, after: str, rest: str) -> str:
    """The text before a word, its last article as the word after it wants."""
    match = re.search(r"\b(an?)(\s+)$", before, re.IGNORECASE)
    if not match or not (word := after or rest.lstrip()):
        return before
    article = "an" if SILENT.match(word) else "a"
    article = article.capitalize() if match[1][0].isupper() else article
    return f"{before[: match.start()]}{article}{match[2]}"


def _without_last(text: str, words: Sequence[str]) -> str:
    """The text without its last word if it is one of these."""
    return re.sub(rf"(?:^|(?<=\W))(?:{'|'.join(words)})\s*$", "", text, flags=re.IGNORECASE)


def _closed(text: str) -> str:
    """The text with single spaces, and none before a sign."""
    return re.sub(r"\s+([,.;:!?])", r"\1", " ".join(text.split()))
