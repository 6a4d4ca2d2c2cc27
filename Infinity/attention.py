"""Self-attention over scales, cross-attention to the text and attentive pooling (arXiv 2412.04431, fig. 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .folded import FoldedText, folds
from .heads import attend, attend_to_past, attend_to_text, merge, split
from .layers import empty_linear, in_one
from .rope import rotate_
from .schedules import Schedule

T = TypeVar("T")
MAX_LOG_SCALE = math.log(100.0)
SMALL_GROUP = 128  # tokens below which one small dense mask is cheaper than one call per scale


@dataclass(frozen=True)
class Group:
    """Queries `start:end` that see keys `0:end`; `mask` (queries, keys) only where scales inside differ."""

    start: int
    end: int
    mask: Tensor | None


def block_causal_groups(schedule: Schedule, device: torch.device, *, small: int = SMALL_GROUP) -> tuple[Group, ...]:
    """Split the block-causal pattern over scales so that large scales attend to a plain prefix without a mask.

    Coarse scales whose tokens together stay within `small` share one call with a small dense mask.
    """
    scale_of = torch.repeat_interleave(torch.arange(len(schedule)), torch.tensor(schedule.lengths)).to(device)
    groups, first = [], 0
    while first < len(schedule):
        start, last = schedule.starts[first], first
        while last + 1 < len(schedule) and schedule.ends[last + 1] - start <= small:
            last += 1
        end = schedule.ends[last]
        mask = scale_of[start:end, None] >= scale_of[:end] if last > first else None
        groups.append(Group(start, end, mask))
        first = last + 1
    return tuple(groups)


@dataclass
class LayerCache:
    """One block's past while sampling: keys and values (B, H, tokens, c), how many are filled, and the text's own.

    `constants` is what a block makes of its weights and of the condition alone, once for all scales.
    """

    keys: Tensor
    values: Tensor
    filled: int = 0
    text: tuple[Tensor, Tensor] | None = None
    constants: dict[str, Any] = field(default_factory=dict)
    folds: bool = True  # until a logit turns out too large for it

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (B, H, n, c) in place and return all filled ones."""
        start, length = self.filled, keys.shape[2]
        self.keys.narrow(2, start, length).copy_(keys)
        self.values.narrow(2, start, length).copy_(values)
        self.filled += length
        return self.keys.narrow(2, 0, self.filled), self.values.narrow(2, 0, self.filled)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The constant `name`, made at its first use."""
        if name not in self.constants:
            self.constants[name] = make()
        return self.constants[name]

    def keep(self, rows: slice) -> None:
        """Drop every row of the batch but `rows`."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        self.constants.clear()
        if self.text is not None:
            self.text = self.text[0][rows], self.text[1][rows]


@dataclass(frozen=True)
class TextContext:
    """Text as the blocks read it: features (B, T, C) and the mask (B, 1, 1, T) of real tokens, None when all are."""

    features: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Places:
    """Where the tokens of a call stand: their rotations (L, c / 2) and, when training, who sees whom."""

    turns: Tensor
    groups: tuple[Group, ...] = field(default=())


class SelfAttention(nn.Module):
    """Cosine attention with a learned scale per head; rotary positions after the normalisation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale_mul_1H11 = nn.Parameter(torch.empty(1, heads, 1, 1))
        self.mat_qkv = empty_linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.empty(width))
        self.v_bias = nn.Parameter(torch.empty(width))
        self.proj = empty_linear(width, width)

    def forward(self, x: Tensor, places: Places, cache: LayerCache | None = None) -> Tensor:
        """Attend from `x` (B, L, C) to itself by `places.groups`, or with `cache` to all that came before as well."""
        bias, factors = self._constants() if cache is None else cache.once("self-attention", self._constants)
        qkv = self._project(x, bias).unflatten(-1, (3 * self.heads, -1))
        qk, v = qkv.split([2 * self.heads, self.heads], dim=2)
        q, k = _turn(qk, factors, places.turns).transpose(1, 2).chunk(2, dim=1)
        v = v.transpose(1, 2)
        if cache is not None:
            bound = cache.once("largest logit", lambda: _largest(factors))
            k, v = cache.append(k, v)
            q = q if q.dtype == v.dtype else q.to(v.dtype, memory_format=torch.contiguous_format)
            return self.proj(attend_to_past(q, k, v, bound))
        return self.proj(attend_groups(q.to(v.dtype), k.to(v.dtype), v, places.groups))

    def _project(self, x: Tensor, bias: Tensor) -> Tensor:
        """Queries, keys and values side by side, (B, L, 3 C)."""
        qkv = in_one(self.mat_qkv, x, bias=bias)
        return self.mat_qkv(x) + bias if qkv is None else qkv

    def _constants(self) -> tuple[Tensor, Tensor]:
        """The bias of queries, keys and values, (3 C,), and what their heads are scaled by, (2 H, 1), keys by one."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        scale = self.scale_mul_1H11.float().clamp(max=MAX_LOG_SCALE).exp().view(-1, 1)
        return bias, torch.cat([scale, torch.ones_like(scale)])


class CrossAttention(nn.Module):
    """Ordinary attention to the text, each picture to its own prompt."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = empty_linear(width, width)
        self.mat_kv = empty_linear(width, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.empty(width))
        self.proj = empty_linear(width, width)

    def forward(self, x: Tensor, text: TextContext, cache: LayerCache | None = None) -> Tensor:
        """Read `text` from `x` (B, L, C); with `cache`, the text's keys and values are computed at the first call."""
        keys_values = self.read(text.features) if cache is None or cache.text is None else cache.text
        if cache is not None:
            cache.text = keys_values
            y = self._read_folded(x, text, cache)
            if y is not None:
                return y
        q = split(self.mat_q(x), self.heads)
        return self.proj(attend_to_text(q, *keys_values, mask=text.mask))

    def _read_folded(self, x: Tensor, text: TextContext, cache: LayerCache) -> Tensor | None:
        """What `forward` gives, by the text folded into both projections; None where that is not to be."""
        if not cache.folds or not folds(self.mat_q, self.proj, x, cache.text[0]):
            return None
        make = partial(FoldedText.of, self.mat_q, self.proj, *cache.text, text.mask)
        y = cache.once("folded", make).attend(x)
        if y is None:
            cache.folds = False
            del cache.constants["folded"]
        return y

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, T, c) of text features (B, T, C)."""
        k, v = self.mat_kv(features).chunk(2, dim=-1)
        return split(k, self.heads), split((v + self.v_bias).to(k.dtype), self.heads)


class AttentivePooling(nn.Module):
    """One learned query per head reads a prompt into one vector."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = nn.Parameter(torch.empty(1, heads, width // heads))
        self.mat_kv = empty_linear(channels, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.empty(width))
        self.proj = empty_linear(width, width)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Pool `features` (B, T, channels) to (B, C)."""
        k, v = self.mat_kv(features).chunk(2, dim=-1)
        q = self.mat_q.float()[:, :, None].expand(len(features), -1, -1, -1)
        k, v = split(k, self.heads), split(v + self.v_bias, self.heads)
        return self.proj(merge(attend(q, k, v, mask=mask, scale=q.shape[-1] ** -0.5))).squeeze(1)


def _turn(qk: Tensor, factors: Tensor, turns: Tensor) -> Tensor:
    """Normalise queries and keys (B, L, 2 H, c), scale and rotate them, in float32; without gradients, in place."""
    wide = qk.float()
    factors = factors / torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_min(1e-12)
    return rotate_(wide * factors if torch.is_grad_enabled() else wide.mul_(factors), turns)


def _largest(factors: Tensor) -> float:
    """The largest logit of cosine attention, known in advance; of use on a CPU only, elsewhere not waited for."""
    return float(factors.detach().max()) if factors.device.type == "cpu" else math.inf


def attend_groups(q: Tensor, k: Tensor, v: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Attend group by group to the prefix each may see, without groups to everything; heads merged, (B, L, H c)."""
    if not groups:
        return merge(attend(q, k, v))
    parts = [
        merge(attend(q[:, :, one.start : one.end], k[:, :, : one.end], v[:, :, : one.end], mask=one.mask))
        for one in groups
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
