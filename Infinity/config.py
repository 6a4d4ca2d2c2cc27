"""Sizes of Infinity's transformer and tokenizer (arXiv 2412.04431, tab. 1 and the released checkpoints)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

MAX_SCALES = 15  # rows of the scale embedding


@dataclass(frozen=True)
class InfinityConfig:
    """The sizes of the transformer and its two dropout rates; ValueError for sizes that do not fit each other."""

    depth: int  # blocks
    width: int  # channels C
    heads: int
    bits: int  # of a token: d, or 4 d for a patchified tokenizer
    hidden: int = 0  # channels of the feed-forward layer; 0: four times the width, rounded to 256
    chunks: int = 1  # groups of blocks; only the tensor names in published files depend on it
    text_channels: int = 2048
    text_length: int = 512  # tokens of the learned null text, the longest prompt
    pool_heads: int = 0  # of the text pooling; 0: one per 128 text channels (per 64 above width 4096)
    drop_path: float = 0.0  # of the last block in training; rises linearly from 0 at the first
    condition_drop: float = 0.1  # share of training prompts that become the null text

    def __post_init__(self) -> None:
        if not self.hidden:
            object.__setattr__(self, "hidden", feed_forward_width(self.width))
        if not self.pool_heads:
            per_head = 128 if self.width <= 4096 else 64
            object.__setattr__(self, "pool_heads", max(1, self.text_channels // per_head))
        self._check()

    def _check(self) -> None:
        for name in ("depth", "width", "heads", "bits", "chunks", "text_channels", "text_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.width % self.heads or self.head_width % 4:
            raise ValueError(f"width / heads must be a multiple of 4, got {self.width} / {self.heads}")
        if self.width % self.pool_heads:
            raise ValueError(f"width must be a multiple of pool_heads, got {self.width} and {self.pool_heads}")
        if self.depth % self.chunks:
            raise ValueError(f"depth must be a multiple of chunks, got {self.depth} and {self.chunks}")

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @classmethod
    def named(cls, model_type: str, bits: int, *, text_channels: int = 2048) -> InfinityConfig:
        """The published size `model_type`, with or without `infinity_`; a suffix such as `c4` sets the chunks.

        ValueError for an unknown one, with the nearest name.
        """
        size, chunks = _split_chunks(model_type)
        if size not in SIZES:
            near = get_close_matches(size, SIZES, 1)
            hint = f"; did you mean {near[0]}?" if near else ";"
            raise ValueError(f"no model type {model_type!r}{hint} have: {', '.join(SIZES)}")
        config = cls(bits=bits, text_channels=text_channels, **SIZES[size])
        return replace(config, chunks=chunks) if chunks else config

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InfinityConfig:
        """A configuration of the values that `to_dict` gave; ValueError for an unknown key."""
        return cls(**known_fields(cls, values))


@dataclass(frozen=True)
class TokenizerConfig:
    """The sizes of the convolutional autoencoder; ValueError for sizes that do not fit each other."""

    bits: int  # d, of a cell
    base: int = 128  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)  # channels of each level, as multiples of `base`
    stride: int = 16  # pixels per cell and side, a power of two
    patchify: int = 1  # patchify x patchify cells make one token of the transformer
    encoder_blocks: int = 2  # residual blocks of a level
    decoder_blocks: int = 3
    groups: int = 32  # of the group norms

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        if self.stride < 1 or self.stride & (self.stride - 1) or self.halvings > len(self.multipliers) - 1:
            raise ValueError(
                f"stride must be a power of two of at most 2^{len(self.multipliers) - 1} for "
                f"{len(self.multipliers)} levels, got {self.stride}"
            )
        if self.patchify < 1 or self.bits < 1:
            raise ValueError(f"bits and patchify must be positive, got {self.bits} and {self.patchify}")

    @property
    def halvings(self) -> int:
        """How many times the encoder halves the picture."""
        return self.stride.bit_length() - 1

    @property
    def token_bits(self) -> int:
        """Bits per transformer token."""
        return self.bits * self.patchify**2

    @classmethod
    def released(cls, bits: int) -> TokenizerConfig:
        """The released tokenizer of `bits` per cell: 16, 24, 32, 64, or 14 (stride 8, patchified); else ValueError."""
        if bits not in RELEASED_BITS:
            raise ValueError(f"released tokenizers have bits {RELEASED_BITS}, got {bits}")
        if bits == 14:
            return cls(14, multipliers=(1, 2, 4, 4), stride=8, patchify=2)
        return cls(bits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "multipliers": list(self.multipliers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TokenizerConfig:
        """A configuration of the values that `to_dict` gave; ValueError for an unknown key."""
        return cls(**known_fields(cls, values))


def feed_forward_width(width: int, ratio: float = 4.0) -> int:
    """Hidden channels of a feed-forward layer: a multiple of 256, halves rounded to even as in the released sizes."""
    return max(256, round(width * ratio / 256) * 256)


def _size(depth: int, width: int, heads: int, chunks: int = 4, drop_path: float = 0.1) -> dict[str, Any]:
    return {"depth": depth, "width": width, "heads": heads, "chunks": chunks, "drop_path": drop_path}


SIZES: dict[str, dict[str, Any]] = {
    "infinity_layer12": _size(12, 768, 8),
    "infinity_layer16": _size(16, 1152, 12),
    "infinity_layer24": _size(24, 1536, 16),
    "infinity_layer32": _size(32, 2080, 20),
    "infinity_layer40": _size(40, 2688, 24),
    "infinity_layer48": _size(48, 3360, 28),
    "infinity_2b": _size(32, 2048, 16, 8),
    "infinity_8b": _size(40, 3584, 28, 8),
    "infinity_20b": _size(58, 4608, 36, 1, 0.25),
}

RELEASED_BITS = (14, 16, 24, 32, 64)


def _split_chunks(model_type: str) -> tuple[str, int]:
    """`infinity_layer12c4` -> (`infinity_layer12`, 4); `2bc8` -> (`infinity_2b`, 8)."""
    name = model_type if model_type.startswith("infinity_") else f"infinity_{model_type}"
    head, mark, tail = name.rpartition("c")
    return (head, int(tail)) if mark and tail.isdigit() else (name, 0)


def known_fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without keys that begin with `_`; ValueError for a key that `cls` lacks, with the nearest one."""
    names = [field.name for field in fields(cls)]
    kept = {key: value for key, value in values.items() if not key.startswith("_")}
    for key in kept:
        if key not in names:
            near = get_close_matches(key, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"unknown key {key!r} in a {cls.__name__}{hint} (have: {', '.join(names)})")
    return kept
