"""Words in prompts and their tokens: aliases replaced before tokenization, spans found through offsets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Span = tuple[int, int]  # start, end (exclusive), of characters or of tokens
MARKER = "▁"  # how SentencePiece begins a word
# scripts without spaces between words: Thai, Lao, Myanmar, Khmer, kana, bopomofo, Han, and marks between them
TOGETHER = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
LETTER = rf"[^\W{TOGETHER}]"  # a letter or digit of a script that puts spaces between words


@dataclass(frozen=True)
class Prompt:
    """A prompt as the tokenizer gets it, aliases replaced."""

    text: str
    places: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)  # alias -> characters of its replacements


def written_out(prompt: str, words: Mapping[str, str]) -> Prompt:
    """Every alias replaced by its words, the longest alias first, in one pass, case kept.

    An alias is found as a whole word; see `whole_word`. Identical text gives identical tokens, so nothing changes
    around a learned vector; a space keeps the words from joining a letter before or after the alias. If the prompt
    already has the replacement words, those are not counted as the alias.
    """
    if not words:
        return Prompt(prompt)
    names = sorted(words, key=lambda name: (-len(name), name))
    pattern = re.compile("|".join(map(whole_word, names)))
    places: dict[str, list[Span]] = {}
    text, end = "", 0
    for match in pattern.finditer(prompt):
        text = _joined(text, prompt[end : match.start()], bool(end))
        text = _joined(text, words[match[0]], True)
        places.setdefault(match[0], []).append((len(text) - len(words[match[0]]), len(text)))
        end = match.end()
    text = _joined(text, prompt[end:], bool(end))
    return Prompt(text, {name: tuple(spans) for name, spans in places.items()})


def _joined(before: str, after: str, apart: bool) -> str:
    """Two texts, with a space between them if letters would meet and they are to be kept apart."""
    meet = apart and re.search(r"\w$", before) and re.match(r"\w", after)
    return f"{before} {after}" if meet else before + after


def occurrences(text: str, words: str) -> list[Span]:
    """Where `words` stand as whole words in the text, as characters; case-sensitive, white space matches any run of it.

    See `whole_word`.
    """
    return [match.span() for match in re.finditer(whole_word(words, any_space=True), text)]


def whole_word(words: str, *, any_space: bool = False) -> str:
    """A pattern for `words` that no letter touches, so that `cat` is not found in `concatenate`.

    A side on which they end with a sign (`<new>`) or with a script that writes words together (Chinese, Japanese, Thai
    ...) may touch anything, and a word of letters may touch such a script.
    """
    pattern = r"\s+".join(map(re.escape, words.split())) if any_space else re.escape(words)
    before = rf"(?<!{LETTER})" if re.match(LETTER, words) else ""
    after = rf"(?!{LETTER})" if re.search(rf"{LETTER}$", words) else ""
    return f"{before}{pattern}{after}"


def token_span(text: str, place: Span, offsets: Sequence[Span], pieces: Sequence[str]) -> Span:
    """The tokens (start, end) of the characters `place`, given each token's characters and piece.

    A bare word marker directly before the first token belongs to it if that token carries none. ValueError if the
    characters are cut off or share a token with other words.
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
    """One tokenized prompt, padding last."""

    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]  # each token as the tokenizer writes it
    offsets: tuple[Span, ...]  # the characters of each token
    real: int  # number of tokens that are not padding

    def span(self, place: Span) -> Span:
        """The tokens (start, end) of some characters; ValueError if they are cut off, see `token_span`."""
        return token_span(self.text, place, self.offsets, self.pieces)


def tokenize(tokenizer: Any, text: str, length: int) -> Tokens:
    """A fast tokenizer's own tokens of a text, padded and cut to `length`."""
    batch = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_offsets_mapping=True)
    offsets = tuple(tuple(pair) for pair in batch["offset_mapping"])
    return Tokens(text, tuple(batch["input_ids"]), tuple(batch.tokens()), offsets, sum(batch["attention_mask"]))
