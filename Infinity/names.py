"""Published tensor names to ours and back, and the sizes that the shapes of tensors imply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .config import InfinityConfig, TokenizerConfig
from .reading import CheckpointError

_CHUNK = re.compile(r"^block_chunks\.(\d+)\.module\.(\d+)\.")
_BLOCK = re.compile(r"^blocks\.(\d+)\.")
_ZERO_BIAS = "zero_k_bias"
# Tables in old files; the schedule gives them.
_STALE = ("lvl_1L", "attn_bias_for_masking", "Infinity_visible_kvlen", "Infinity_invisible_qlen")

_WRAPPED_CONV = re.compile(r"(conv_in|conv_out|conv1|conv2|nin_shortcut|(?:down|up)sample\.conv)\.conv\.")
_PLAIN_CONV = re.compile(r"(conv_in|conv_out|conv1|conv2|nin_shortcut|(?:down|up)sample\.conv)\.(?=weight|bias)")
_WRAPPED_NORM = re.compile(r"(norm1|norm2|norm_out)\.norm\.")
_PLAIN_NORM = re.compile(r"(norm1|norm2|norm_out)\.(?=weight|bias)")


def transformer_name(name: str, blocks_per_chunk: int) -> str:
    """Our name of a published transformer tensor."""
    found = _CHUNK.match(name)
    if not found:
        return name
    return f"blocks.{int(found[1]) * blocks_per_chunk + int(found[2])}.{name[found.end() :]}"


def published_transformer_name(name: str, config: InfinityConfig) -> str:
    """The published name of our transformer tensor."""
    found = _BLOCK.match(name)
    if not found or config.chunks == 1:
        return name
    chunk, inner = divmod(int(found[1]), config.depth // config.chunks)
    return f"block_chunks.{chunk}.module.{inner}.{name[found.end() :]}"


def from_published_transformer(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], InfinityConfig]:
    """Our tensors of published ones, and the configuration that their shapes imply.

    CheckpointError if they are not those of a transformer, or have a key bias other than 0.
    """
    per_chunk = 1 + max((int(found[2]) for name in state if (found := _CHUNK.match(name))), default=0)
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        leaf = name.rpartition(".")[2]
        if leaf in _STALE:
            continue
        if leaf == _ZERO_BIAS:
            if bool(value.any()):
                raise CheckpointError(f"{name} should be all zeros: keys have no bias in Infinity")
            continue
        ours[transformer_name(name, per_chunk)] = value
    config = transformer_config(ours)
    for block in range(config.depth):
        name = f"blocks.{block}.sa.scale_mul_1H11"
        if name in ours:  # another attention kernel's files hold (1, 1, H, 1)
            ours[name] = ours[name].reshape(1, -1, 1, 1)
    chunked = any(_CHUNK.match(name) for name in state)
    return ours, replace(config, chunks=config.depth // per_chunk if chunked else 1)


def to_published_transformer(state: Mapping[str, Tensor], config: InfinityConfig) -> dict[str, Tensor]:
    """Our tensors under their published names, zero key biases included."""
    published: dict[str, Tensor] = {}
    for name, value in state.items():
        other = published_transformer_name(name, config)
        published[other] = value
        if name.endswith("v_bias"):
            published[other.removesuffix("v_bias") + _ZERO_BIAS] = torch.zeros_like(value)
    return published


def transformer_config(state: Mapping[str, Tensor]) -> InfinityConfig:
    """The configuration that the shapes of a transformer's tensors (our names) imply; CheckpointError for others."""
    try:
        width, bits = state["word_embed.weight"].shape
        return InfinityConfig(
            depth=1 + max(int(found[1]) for name in state if (found := _BLOCK.match(name))),
            width=width,
            heads=state["blocks.0.sa.scale_mul_1H11"].numel(),
            bits=bits,
            hidden=len(state["blocks.0.ffn.fc1.weight"]),
            text_channels=len(state["text_norm.weight"]),
            text_length=len(state["cfg_uncond"]),
            pool_heads=state["text_proj_for_sos.ca.mat_q"].shape[1],
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"these are not the tensors of an Infinity transformer: {error}") from error


def from_published_tokenizer(
    state: Mapping[str, Tensor], *, patchify: int | None = None
) -> tuple[dict[str, Tensor], TokenizerConfig]:
    """Our tensors of published ones, and the configuration that their shapes imply.

    `patchify` is 2 for a stride of 8 pixels and 1 otherwise, unless given. CheckpointError for other tensors.
    """
    kept = {name: value for name, value in state.items() if name.startswith(("encoder.", "decoder."))}
    ours = {_WRAPPED_NORM.sub(r"\1.", _WRAPPED_CONV.sub(r"\1.", name)): value for name, value in kept.items()}
    return ours, tokenizer_config(ours, patchify=patchify)


def to_published_tokenizer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their published names."""
    return {_PLAIN_NORM.sub(r"\1.norm.", _PLAIN_CONV.sub(r"\1.conv.", name)): value for name, value in state.items()}


def tokenizer_config(state: Mapping[str, Tensor], *, patchify: int | None = None) -> TokenizerConfig:
    """The configuration that the shapes of a tokenizer's tensors (our names) imply; CheckpointError for others."""
    try:
        base = len(state["encoder.conv_in.weight"])
        levels = _count(state, r"^encoder\.down\.(\d+)\.block\.")
        halvings = _count(state, r"^encoder\.down\.(\d+)\.downsample\.")
        return TokenizerConfig(
            bits=len(state["encoder.conv_out.weight"]),
            base=base,
            multipliers=tuple(len(state[f"encoder.down.{i}.block.0.conv1.weight"]) // base for i in range(levels)),
            stride=2**halvings,
            patchify=patchify or (2 if halvings == 3 else 1),
            encoder_blocks=_count(state, r"^encoder\.down\.0\.block\.(\d+)\."),
            decoder_blocks=_count(state, r"^decoder\.up\.0\.block\.(\d+)\."),
        )
    except KeyError as error:
        raise CheckpointError(f"these are not the tensors of an Infinity tokenizer: no {error.args[0]}") from error


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    matcher = re.compile(pattern)
    return 1 + max((int(found[1]) for name in state if (found := matcher.match(name))), default=-1)
