"""Flan-T5 features of prompts, each encoded once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_LENGTH = 512

_PEOPLE = (
    *("man", "woman", "men", "women", "boy", "girl", "child", "person", "human", "adult", "teenager"),
    *("employee", "employer", "worker", "mother", "father", "sister", "brother"),
    *("grandmother", "grandfather", "son", "daughter"),
)
_FACES = ". very smooth faces, good looking faces, face to the camera, perfect facial features"


def with_positive_prompt(prompt: str) -> str:
    """Add the published face phrase if the prompt contains a word for people, be it inside another (as in "many")."""
    return prompt + _FACES if any(word in prompt for word in _PEOPLE) else prompt


class TextEncoder:
    """The last hidden states of a T5 encoder, float32, without padding (the end mark counts as a token).

    With `cache`, each prompt is encoded once and kept as a safetensors file there. The encoder itself is loaded only
    when a file is missing or damaged. ValueError unless `max_length` is 1 to 512 tokens.
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
        """Features of `prompts` on the encoder's device; `positive` calls `with_positive_prompt` on each first."""
        texts = [with_positive_prompt(prompt) if positive else prompt for prompt in prompts]
        kept = {text: self._read(text) for text in dict.fromkeys(texts)}
        encoded = {text: features for text, features in kept.items() if features is not None}
        missing = [text for text in kept if text not in encoded]
        if missing:
            for text, features in zip(missing, self._run(missing), strict=True):
                self._write(text, features)
                encoded[text] = features
        return Text.of([encoded[text].to(self.device) for text in texts])

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
        if path is None:
            return None
        try:
            return load_file(path)["features"]
        except (FileNotFoundError, SafetensorError):
            return None

    def _write(self, text: str, features: Tensor) -> None:
        path = self._path(text)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            # save_file would make it readable by its owner only.
            temporary.write_bytes(save({"features": features.contiguous()}))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
