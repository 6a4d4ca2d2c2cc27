"""Text features of a batch of prompts, packed without padding, and the Flan-T5 encoder that makes them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_LENGTH = 512

_FACE_WORDS = (
    "man woman men women boy girl child person human adult teenager employee employer worker "
    "mother father sister brother grandmother grandfather son daughter"
).split()
_FACE_SUFFIX = ". very smooth faces, good looking faces, face to the camera, perfect facial features"


@dataclass(frozen=True)
class Text:
    """Features of several prompts: `values` (sum of lengths, channels), prompt after prompt, and each prompt's length."""

    values: Tensor
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if sum(self.lengths) != len(self.values) or min(self.lengths, default=0) < 1:
            raise ValueError(f"lengths {self.lengths} do not fit {len(self.values)} rows (each must be at least 1)")

    @classmethod
    def of(cls, prompts: Sequence[Tensor]) -> Text:
        """From one (length, channels) tensor per prompt."""
        return cls(torch.cat(list(prompts)), tuple(len(prompt) for prompt in prompts))

    @classmethod
    def join(cls, parts: Sequence[Text]) -> Text:
        """The prompts of all parts, in order."""
        return cls(torch.cat([part.values for part in parts]), sum((part.lengths for part in parts), ()))

    def __len__(self) -> int:
        return len(self.lengths)

    def prompts(self) -> tuple[Tensor, ...]:
        """One (length, channels) tensor per prompt."""
        return self.values.split(self.lengths)

    def select(self, rows: Sequence[int]) -> Text:
        """The prompts at `rows`, in that order."""
        parts = self.prompts()
        return Text.of([parts[row] for row in rows])

    def replace(self, values: Tensor) -> Text:
        """The same lengths with other values."""
        return Text(values, self.lengths)

    def positions(self) -> Tensor:
        """Place of every row in its own prompt, (sum of lengths,)."""
        return torch.cat([torch.arange(length) for length in self.lengths]).to(self.values.device)

    def padded(self) -> Tensor:
        """Values as (B, longest, channels), zeros after each prompt's end."""
        return pad_sequence(self.prompts(), batch_first=True)

    def mask(self) -> Tensor | None:
        """True where a padded row is real, (B, 1, 1, longest); None when nothing is padded."""
        if len(set(self.lengths)) == 1:
            return None
        lengths = torch.tensor(self.lengths, device=self.values.device)
        return (torch.arange(max(self.lengths), device=self.values.device) < lengths[:, None])[:, None, None]

    def to(self, device: torch.device | str) -> Text:
        """The same text on `device`."""
        return Text(self.values.to(device), self.lengths)


def with_positive_prompt(prompt: str) -> str:
    """Add the face phrase when the prompt speaks of people; a plain substring test, as published (so "many" counts)."""
    return prompt + _FACE_SUFFIX if any(word in prompt for word in _FACE_WORDS) else prompt


class TextEncoder:
    """Last hidden states of a T5 encoder, cut to each prompt's own tokens (end mark included), float32.

    With `cache`, each prompt is encoded once and kept as a safetensors file; the encoder is loaded only when one is missing.
    """

    def __init__(
        self,
        name: str = "google/flan-t5-xl",
        *,
        cache: str | Path | None = None,
        max_length: int = MAX_LENGTH,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 1 <= max_length <= MAX_LENGTH:
            raise ValueError(f"max_length must be 1 to {MAX_LENGTH}, got {max_length}")
        self.name, self.max_length, self.dtype, self.device = str(name), max_length, dtype, torch.device(device)
        self.cache = Path(cache) if cache is not None else None
        self._loaded: tuple[PreTrainedTokenizerBase, PreTrainedModel] | None = None

    def encode(self, prompts: Sequence[str], *, positive: bool = False) -> Text:
        """Features of `prompts` on the encoder's device; `positive` adds the published face phrase."""
        texts = [with_positive_prompt(prompt) if positive else prompt for prompt in prompts]
        found = {text: self._read(text) for text in dict.fromkeys(texts)}
        missing = [text for text, features in found.items() if features is None]
        if missing:
            for text, features in zip(missing, self._run(missing), strict=True):
                self._write(text, features)
                found[text] = features
        return Text.of([found[text].to(self.device) for text in texts])

    @torch.no_grad()
    def _run(self, texts: list[str]) -> list[Tensor]:
        tokenizer, model = self._load()
        batch = tokenizer(text=texts, max_length=self.max_length, padding=True, truncation=True, return_tensors="pt")
        ids, mask = batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return [rows[: int(keep.sum())].cpu() for rows, keep in zip(hidden, mask, strict=True)]

    def _load(self) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        if self._loaded is None:
            from transformers import AutoTokenizer, T5EncoderModel

            tokenizer = AutoTokenizer.from_pretrained(self.name)
            model = T5EncoderModel.from_pretrained(self.name, dtype=self.dtype).to(self.device).eval()
            self._loaded = tokenizer, model.requires_grad_(False)
        return self._loaded

    def _path(self, text: str) -> Path | None:
        if self.cache is None:
            return None
        key = json.dumps([self.name, self.max_length, str(self.dtype), text])
        return self.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def _read(self, text: str) -> Tensor | None:
        path = self._path(text)
        return load_file(path)["features"] if path is not None and path.is_file() else None

    def _write(self, text: str, features: Tensor) -> None:
        path = self._path(text)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        save_file({"features": features.contiguous()}, temporary)
        os.replace(temporary, path)
