"""Prompts with free tokens among their words, read by a backbone's text encoders through their token embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from stages.backbones.core.base import Backbone
from stages.control.edits import edit_activations
from stages.control.state import Condition
from stages.interventions.embedding import embedding_tap

Insertion = Literal["prefix_k", "suffix_k", "mid_k", "insert_k", "per_k_words"]
FILLERS = ("a", "the", "of", "photo")  # words that hold a free token's place in the text, if a tokenizer has them whole
APART = 3  # words between free tokens of per_k_words, whatever K is


def cuts(insertion: Insertion, words: int, free: int) -> list[int]:
    """How many words stand before each of the free tokens; ValueError for an unknown insertion."""
    if insertion == "prefix_k":
        return [0] * free
    if insertion == "suffix_k":
        return [words] * free
    if insertion == "mid_k":
        return [words // 2] * free
    if insertion == "insert_k":
        return [(i + 1) * (words // (free + 1)) for i in range(free)]
    if insertion == "per_k_words":
        return [min(APART * i, words) for i in range(free)]
    raise ValueError(f"insertion must be one of {', '.join(get_args(Insertion))}, got {insertion!r}")


def placed(parts: tuple[Tensor, Tensor, Tensor], free: Tensor, insertion: Insertion) -> Tensor:
    """Begin, words and tail, each (1, n, ...), with the free tokens (1, K, ...) among the words: (1, L, ...)."""
    begin, words, tail = parts
    at = cuts(insertion, words.shape[1], free.shape[1])
    rows = [begin]
    for i, (low, high) in enumerate(pairwise([0, *at, words.shape[1]])):
        rows.append(words[:, low:high])
        if i < free.shape[1]:
            rows.append(free[:, i : i + 1])
    return torch.cat([*rows, tail], 1)


def searchable(tokenizer: Any, readable: bool) -> list[int]:
    """The ids that may be drawn: all but the first and the special ones; `readable` ones survive as text.

    ValueError if there are none.
    """
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(1, len(tokenizer)) if i not in special]
    if readable:
        again = tokenizer([tokenizer.decode([i]) for i in ids], add_special_tokens=False).input_ids
        ids = [i for i, back in zip(ids, again, strict=True) if back == [i]]
    if not ids:
        raise ValueError("the tokenizer has no tokens to search among")
    return ids


def marks(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that a tokenizer puts before and behind a text: begin and end for CLIP, no begin for T5."""
    around = tokenizer("").input_ids
    begin = around[:1] if around and around[0] == tokenizer.bos_token_id else []
    return begin, around[len(begin) :]


class Reader:
    """The text side of a backbone under attack, which reads rows of token embeddings in the place of tokens.

    The leading encoder is the one whose tokens the network reads first. Encoders with the same vocabulary read the same
    free tokens; one with another reads them written out. ValueError for a backbone that reads no text, or whose
    encoder reads a prompt inside a longer text.
    """

    def __init__(self, backbone: Backbone) -> None:
        texts = backbone.texts
        if not texts.tokenizers:
            raise ValueError(f"{backbone.name} reads no text, so there are no tokens to search among")
        if not texts.aligned:
            raise ValueError(f"{backbone.name} reads a prompt inside a longer text, where free tokens have no place")
        self.backbone, self.part = backbone, next(iter(texts.starts), texts.names[0])
        self.tokenizer = texts.tokenizers[self.part]
        known = self.tokenizer.get_vocab()
        self.parts = [part for part, other in texts.tokenizers.items() if other.get_vocab() == known]
        self.begin, self.end = marks(self.tokenizer)
        self.tables = {part: self._table(part) for part in texts.tokenizers}
        self.filler = self._filler()

    @property
    def table(self) -> Tensor:
        """The leading encoder's token embeddings (V, D)."""
        return self.tables[self.part]

    @property
    def length(self) -> int:
        """Tokens that the leading encoder reads."""
        return self.backbone.texts.limit(self.part)

    def words(self, prompt: str) -> list[int]:
        """The ids of a prompt's own tokens, those that are cut off and special ones left out."""
        text = self.backbone.attached.write_out(prompt).text
        ids = self.tokenizer(text, truncation=True, max_length=self.length).input_ids
        return ids[len(self.begin) : len(ids) - len(self.end)]

    def said(self, ids: Sequence[int], prompt: str, insertion: Insertion = "prefix_k") -> str:
        """The prompt with the free tokens written out; the words of a prompt stay as they are at its ends."""
        free = self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()
        if insertion in ("prefix_k", "suffix_k"):
            order = (free, prompt) if insertion == "prefix_k" else (prompt, free)
            return " ".join(order).strip()
        words = torch.tensor([self.words(prompt)])
        nothing = words[:, :0]
        row = placed((nothing, words, nothing), torch.tensor([list(ids)]), insertion)[0]
        return self.tokenizer.decode(row, skip_special_tokens=True).strip()

    def beside(self, free: Mapping[str, Tensor], prompt: str, insertion: Insertion, said: str) -> Condition:
        """The condition of a prompt with free rows (1, K, D) by encoder; other vocabularies read `said`.

        ValueError if the prompt leaves no room for them.
        """
        count = next(iter(free.values())).shape[1]
        text = " ".join([self.filler] * count + [prompt]).strip()
        words = len(self.words(text)) - count
        if words < 0:
            raise ValueError(f"{count} free tokens are more than {self.backbone.name} reads")
        first = len(self.begin)

        def fill(part: str, h: Tensor) -> Tensor:
            after = first + count + words
            rows = (h[:, :first], h[:, first + count : after], h[:, after:])
            return placed(rows, free[part].to(h), insertion)

        return self._encoded(text, fill, said)

    def alone(self, rows: Mapping[str, Tensor], spoken: int, said: str) -> Condition:
        """The condition of whole sequences of token embeddings (1, L, D) by encoder, `spoken` tokens and padding.

        Other vocabularies read `said`. ValueError for a sequence that is longer than what is read.
        """
        length = next(iter(rows.values())).shape[1]
        if length > self.length:
            raise ValueError(f"{self.backbone.name} reads {self.length} tokens, got {length}")
        return self._encoded(" ".join([self.filler] * spoken), lambda part, h: rows[part].to(h), said)

    def _encoded(self, text: str, fill: Any, said: str) -> Condition:
        with ExitStack() as stack:
            for part in self.tables:
                edit = partial(self._own, part, fill) if part in self.parts else partial(self._written, part, said)
                stack.enter_context(edit_activations(self.backbone, {embedding_tap(self.backbone, part): edit}))
            return self.backbone.encode([text])

    def _own(self, part: str, fill: Any, h: Tensor, at: Any) -> Tensor:
        return fill(part, h)

    def _written(self, part: str, said: str, h: Tensor, at: Any) -> Tensor:
        """What an encoder of another vocabulary reads of the text."""
        padded = {"padding": "max_length", "max_length": h.shape[1], "truncation": True}
        return self.tables[part][self.backbone.texts.tokenizers[part]([said], **padded).input_ids].to(h)

    @torch.no_grad()
    def _table(self, part: str) -> Tensor:
        encoder: Any = self.backbone.texts.encoders()[part]  # of transformers
        embed = encoder.get_input_embeddings()
        weight = embed.weight
        return embed(torch.arange(len(weight), device=weight.device)).float().to(self.backbone.device)

    def _filler(self) -> str:
        """A word of one token; ValueError if the tokenizer has none of them whole."""
        for word in FILLERS:
            if len(self.tokenizer(f"{word} {word}", add_special_tokens=False).input_ids) == 2:
                return word
        raise ValueError(f"{self.backbone.name}: its tokenizer has no word of one token among {', '.join(FILLERS)}")
