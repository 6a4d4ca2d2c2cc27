"""A backbone's text side: its encoders, their tokenizers, and which rows of the condition's `embeds` each one fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from stages.control.addresses import TEXT

Tokenize = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Segment:
    """One text encoder's tokens in the condition's `embeds`."""

    begin: int  # row of the first
    length: int  # number of rows
    tokenize: Tokenize  # prompts to the token ids of these rows, without padding


class Texts:
    """Text encoders and tokenizers by the encoder's name: text_encoder, text_encoder_2 ..."""

    def __init__(
        self,
        name: str,
        tokenizers: Mapping[str, Any] | None = None,
        *,
        length: int | None = None,
        long: str = TEXT,
        starts: Mapping[str, int] | None = None,
        encoders: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.name, self.long = name, long  # long: the encoder whose number of tokens is a setting
        self.length = length  # tokens that it reads; None: as many as its tokenizer says
        self._tokenizers = dict(tokenizers or {})
        self.starts = dict(starts or {})  # encoders whose last states are rows of `embeds`, and the first row of each
        self._encoders = dict(encoders or {})

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        """The tokenizers by encoder."""
        return self._tokenizers

    @property
    def names(self) -> tuple[str, ...]:
        """The encoders' names, in the pipeline's order."""
        return tuple(self.tokenizers)

    @property
    def aligned(self) -> bool:
        """Whether each tokenizer's tokens of a bare prompt stand row by row in `embeds`."""
        return True

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders by name."""
        return dict(self._encoders)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, special ones included and padding not, in the order of the condition's `embeds`.

        Several encoders may stand there; these are the tokens of the first. ValueError without such tokens.
        """
        first = next((name for name, begin in self.starts.items() if begin == 0), None)
        if first is None:
            raise ValueError(f"{self.name} has no tokens that stand for the rows of its text embedding")
        return self._ids(first, prompts, truncation=True, max_length=self.limit(first))

    def segment(self, encoder: str, tokens: int) -> Segment:
        """The rows of an encoder of `starts` among the `tokens` rows of `embeds`."""
        begin = self.starts[encoder]
        length = min((start for start in self.starts.values() if start > begin), default=tokens) - begin
        if begin == 0:
            return Segment(begin, length, self.tokenize)
        return Segment(begin, length, lambda prompts: self._ids(encoder, prompts, truncation=True, max_length=length))

    def limit(self, encoder: str) -> int:
        """Tokens that an encoder reads of a prompt, special ones included."""
        if encoder == self.long and self.length is not None:
            return self.length
        return self.tokenizers[encoder].model_max_length

    def cut(self, prompts: Sequence[str]) -> list[int]:
        """How many tokens of each prompt no text encoder reads, because it has more than they take."""
        by_encoder = self.cut_by_encoder(prompts)
        return [min(counts) for counts in zip(*by_encoder.values(), strict=True)] if by_encoder else [0] * len(prompts)

    def cut_by_encoder(self, prompts: Sequence[str]) -> dict[str, list[int]]:
        """How many tokens of each prompt each encoder leaves out."""
        return {name: [self._excess(name, prompt) for prompt in prompts] for name in self.names}

    def cleaned(self, prompt: str) -> str:
        """The prompt as the pipeline hands it to the tokenizer, in lower case for example."""
        return prompt

    def _excess(self, encoder: str, prompt: str) -> int:
        (ids,) = self._ids(encoder, [self.cleaned(prompt)], truncation=False, verbose=False)
        return max(0, len(ids) - self.limit(encoder))

    def _ids(self, encoder: str, prompts: Sequence[str], **options: Any) -> list[list[int]]:
        return self.tokenizers[encoder](list(prompts), **options).input_ids
