"""Self-attention over scales, cross-attention to the text and attentive pooling (arXiv 2412.04431, fig. 2).

Shapes: B batch rows, L tokens, T tokens of text, H heads of c channels, C = H c.
"""

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
from .linear import empty_linear, in_one
from .rope import rotate_
from .schedules import Schedule

T = TypeVar("T")
MAX_LOG_SCALE = math.log(100.0)
SMALL_GROUP = 128  # tokens; up to this, one call with a dense mask is cheaper than one call per scale


@dataclass(frozen=True)
class Group:
    """Consecutive scales that attend in one call: queries `start:end` to keys `0:end`."""

    start: int
    end: int
    mask: Tensor | None  # (queries, keys), True for visible keys; None for a group of one scale, which sees them all


def block_causal_groups(schedule: Schedule, device: torch.device, *, small: int = SMALL_GROUP) -> tuple[Group, ...]:
    """Split block-causal attention into groups of scales, so that large scales need no mask.

    Coarse scales share a group, and a dense mask, while their tokens together are at most `small`.
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
    """The state of one block while sampling."""

    keys: Tensor  # (B, H, tokens, c), room for all scales
    values: Tensor  # likewise
    filled: int = 0  # tokens written so far
    text: tuple[Tensor, Tensor] | None = None  # the text's keys and values (B, H, T, c), once computed
    constants: dict[str, Any] = field(default_factory=dict)  # results of weights and condition alone, by name
    folds: bool = True  # False once a logit was too large for a folded text

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values (B, H, n, c) behind the others; all of them so far (B, H, filled, c)."""
        start, length = self.filled, keys.shape[2]
        self.keys.narrow(2, start, length).copy_(keys)
        self.values.narrow(2, start, length).copy_(values)
        self.filled += length
        return self.keys.narrow(2, 0, self.filled), self.values.narrow(2, 0, self.filled)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """The constant `name`; `make` computes it at the first call."""
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
    """Text as the blocks read it."""

    features: Tensor  # (B, T, C)
    mask: Tensor | None = None  # (B, 1, 1, T), True for real tokens; None if all are


@dataclass(frozen=True)
class Places:
    """The positions of L tokens, and which of them see each other."""

    turns: Tensor  # rotations (L, c / 2), complex
    groups: tuple[Group, ...] = ()  # block-causal groups when training; none while sampling, where all is visible


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
        """Attend from `x` (B, L, C) to `x` by `places.groups`, or with `cache` to `x` and all earlier scales.

        (B, L, C); with `cache`, the keys and values of `x` are appended to it.
        """
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
        """Queries, keys and values of `x` (B, L, C) with `bias` (3 C,), side by side: (B, L, 3 C)."""
        qkv = in_one(self.mat_qkv, x, bias=bias)
        return self.mat_qkv(x) + bias if qkv is None else qkv

    def _constants(self) -> tuple[Tensor, Tensor]:
        """The bias of queries, keys and values, (3 C,), and the scale of each head of queries and keys, (2 H, 1)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        scale = self.scale_mul_1H11.float().clamp(max=MAX_LOG_SCALE).exp().view(-1, 1)
        return bias, torch.cat([scale, torch.ones_like(scale)])


class CrossAttention(nn.Module):
    """Attention with the usual scale 1 / sqrt(c) to the text, each picture to its own prompt."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = empty_linear(width, width)
        self.mat_kv = empty_linear(width, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.empty(width))
        self.proj = empty_linear(width, width)

    def forward(self, x: Tensor, text: TextContext, cache: LayerCache | None = None) -> Tensor:
        """Attend from `x` (B, L, C) to `text`, (B, L, C); `cache` keeps the text's keys and values."""
        keys_values = self.read(text.features) if cache is None or cache.text is None else cache.text
        if cache is not None:
            cache.text = keys_values
            y = self._read_folded(x, keys_values, text.mask, cache)
            if y is not None:
                return y
        q = split(self.mat_q(x), self.heads)
        return self.proj(attend_to_text(q, *keys_values, mask=text.mask))

    def _read_folded(
        self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None, cache: LayerCache
    ) -> Tensor | None:
        """`forward` by a text folded into both projections; None if it cannot be folded, or folding saves nothing."""
        if not cache.folds or not folds(self.mat_q, self.proj, x, keys_values[0]):
            return None
        make = partial(FoldedText.of, self.mat_q, self.proj, *keys_values, mask)
        y = cache.once("folded", make).attend(x)
        if y is None:
            cache.folds = False
            del cache.constants["folded"]
        return y

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (B, H, T, c), of text `features` (B, T, C)."""
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
        """Pool `features` (B, T, channels) to (B, C); `mask` (B, 1, 1, T) is True for real tokens."""
        k, v = self.mat_kv(features).chunk(2, dim=-1)
        q = self.mat_q.float()[:, :, None].expand(len(features), -1, -1, -1)
        k, v = split(k, self.heads), split(v + self.v_bias, self.heads)
        return self.proj(merge(attend(q, k, v, mask=mask, scale=q.shape[-1] ** -0.5))).squeeze(1)


def _turn(qk: Tensor, factors: Tensor, turns: Tensor) -> Tensor:
    """Normalise, scale by `factors` (2 H, 1) and rotate `qk` (B, L, 2 H, c) in float32; in place without gradients."""
    wide = qk.float()
    factors = factors / torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_min(1e-12)
    return rotate_(wide * factors if torch.is_grad_enabled() else wide.mul_(factors), turns)


def _largest(factors: Tensor) -> float:
    """The largest logit that cosine attention can give; infinity on a GPU, where reading it would only cost a wait."""
    return float(factors.detach().max()) if factors.device.type == "cpu" else math.inf


def attend_groups(q: Tensor, k: Tensor, v: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Attend group by group, each to its prefix of the keys; to all keys if there are no groups.

    q, k, v (B, H, L, c) to (B, L, H c), heads joined.
    """
    if not groups:
        return merge(attend(q, k, v))
    parts = [
        merge(attend(q[:, :, one.start : one.end], k[:, :, : one.end], v[:, :, : one.end], mask=one.mask))
        for one in groups
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
