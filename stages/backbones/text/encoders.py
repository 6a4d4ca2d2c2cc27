"""Small text encoders for backbones that are trained on a world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def clip(config: Mapping[str, Any], tokenizer: Any) -> CLIPTextModel:
    """CLIP's text model with random weights."""
    return CLIPTextModel(_clip(config, tokenizer))


def clip_projected(config: Mapping[str, Any], tokenizer: Any) -> CLIPTextModelWithProjection:
    """CLIP's text model with a projection of the pooled output, with random weights."""
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
