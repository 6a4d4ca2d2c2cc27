"""Words in prompts and the tokens that stand for them: aliases written out, spans found through offsets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Span = tuple[int, int]  # start, end (exclusive), of characters or of tokens
MARKER = "▁"  # how SentencePiece begins a word


@dataclass(frozen=True)
class Prompt:
    """A prompt as the tokenizer gets it: aliases written out, and where in the text each of them stood."""

    text: str
    places: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)


def written_out(prompt: str, words: Mapping[str, str]) -> Prompt:
    """Every whole-word alias replaced by its words, the longest alias first, in one pass, case kept.

    Identical text gives identical tokens, so nothing changes around a learned vector. Words that stand in the prompt by
    themselves are not the alias's.
    """
    if not words:
        return Prompt(prompt)
    names = sorted(words, key=lambda name: (-len(name), name))
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)")
    parts, places, end = [], {}, 0
    for match in pattern.finditer(prompt):
        parts += [prompt[end : match.start()], words[match[0]]]
        stop = sum(map(len, parts))
        places.setdefault(match[0], []).append((stop - len(parts[-1]), stop))
        end = match.end()
    return Prompt("".join([*parts, prompt[end:]]), {name: tuple(spans) for name, spans in places.items()})


def occurrences(text: str, words: str) -> list[Span]:
    """Where `words` stand as whole words in the text, case-sensitive; white space matches any run of it."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    return [match.span() for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", text)]


def token_span(text: str, place: Span, offsets: Sequence[Span], pieces: Sequence[str]) -> Span:
    """The tokens of the characters `place`; ValueError when they are cut off or share a token with other words.

    A bare word marker directly before the first token belongs to it when that token carries none.
    """
    start, end = place
    inside = [i for i, (low, high) in enumerate(offsets) if low < end and high > start and high > low]
    covered = {c for i in inside for c in range(*offsets[i])}
    if not {c for c in range(start, end) if not text[c].isspace()} <= covered:
        raise ValueError(f"{text[start:end]!r} is truncated in {text!r}: the prompt has more tokens than the encoder")
    if any(not text[c].isspace() for c in covered - set(range(start, end))):
        raise ValueError(f"{text[start:end]!r} shares a token with its neighbours in {text!r}")
    first = inside[0]
    if first and pieces[first - 1] == MARKER and not pieces[first].startswith(MARKER):
        first -= 1
    return first, inside[-1] + 1


@dataclass(frozen=True)
class Tokens:
    """One tokenized prompt: ids, pieces and their characters, real (unpadded) tokens first."""

    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    offsets: tuple[Span, ...]
    real: int

    def span(self, place: Span) -> Span:
        """The tokens of some characters."""
        return token_span(self.text, place, self.offsets, self.pieces)


def tokenize(tokenizer: Any, text: str, length: int) -> Tokens:
    """A fast tokenizer's own tokens of a text, padded and cut to `length`."""
    found = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_offsets_mapping=True)
    offsets = tuple(tuple(pair) for pair in found["offset_mapping"])
    return Tokens(text, tuple(found["input_ids"]), tuple(found.tokens()), offsets, sum(found["attention_mask"]))
