"""Small text encoders for a world's own backbones, and prompt embeddings kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from stages.files import replacing


def clip(config: Mapping[str, Any], tokenizer: Any) -> CLIPTextModel:
    """CLIP's text model with random weights."""
    return CLIPTextModel(_clip(config, tokenizer))


def clip_projected(config: Mapping[str, Any], tokenizer: Any) -> CLIPTextModelWithProjection:
    """The same with a projection of the pooled output."""
    return CLIPTextModelWithProjection(_clip(config, tokenizer))


def t5(config: Mapping[str, Any], tokenizer: Any) -> T5EncoderModel:
    """T5's encoder with random weights."""
    return T5EncoderModel(_t5(T5Config, config, tokenizer))


def umt5(config: Mapping[str, Any], tokenizer: Any) -> UMT5EncoderModel:
    """The multilingual T5's encoder with random weights: every layer has positions of its own."""
    return UMT5EncoderModel(_t5(UMT5Config, config, tokenizer))


def gemma(config: Mapping[str, Any], tokenizer: Any) -> Gemma2Model:
    """Gemma 2 with random weights."""
    return Gemma2Model(Gemma2Config(**config, vocab_size=len(tokenizer), **_ids(tokenizer)))


def _clip(config: Mapping[str, Any], tokenizer: Any) -> CLIPTextConfig:
    length = tokenizer.model_max_length
    return CLIPTextConfig(**config, vocab_size=len(tokenizer), max_position_embeddings=length, **_ids(tokenizer))


def _t5(cls: type[T5Config] | type[UMT5Config], config: Mapping[str, Any], tokenizer: Any) -> T5Config | UMT5Config:
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return cls(**config, vocab_size=len(tokenizer), **ids)


def _ids(tokenizer: Any) -> dict[str, int]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


class EmbeddingCache:
    """Encoded prompts as one safetensors file each, in a folder per set of text encoders."""

    def __init__(self, folder: Path | str, encoders: Mapping[str, nn.Module], settings: str = "") -> None:
        self.folder = Path(folder) / fingerprint(encoders, settings)

    def read(self, prompts: Iterable[str], device: torch.device) -> dict[str, dict[str, Tensor]]:
        """What is there of the prompts; a damaged file counts as absent."""
        found = {}
        for prompt in prompts:
            try:
                found[prompt] = load_file(self._path(prompt), device=str(device))
            except (FileNotFoundError, SafetensorError):
                continue
        return found

    def write(self, rows: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keeps the tensors of each prompt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for prompt, tensors in rows.items():
            with replacing(self._path(prompt)) as temporary:
                save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary)

    def _path(self, prompt: str) -> Path:
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:32]}.safetensors"


def fingerprint(encoders: Mapping[str, nn.Module], settings: str = "") -> str:
    """A digest of the settings and of a few numbers of every weight: other encoders give another."""
    digest = hashlib.sha256(settings.encode())
    for part, encoder in encoders.items():
        for name, value in encoder.named_parameters():
            few = value.detach().flatten()[:: max(1, value.numel() // 8)].float().cpu().numpy()
            digest.update(f"{part}.{name} {tuple(value.shape)} {value.dtype}".encode() + few.tobytes())
    return digest.hexdigest()[:16]
