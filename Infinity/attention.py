"""Self-attention over scales, cross-attention to the text and attentive pooling (arXiv 2412.04431, fig. 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function

from .layers import empty_linear, has_onednn, in_one, multiplies, multiply
from .rope import rotate_
from .schedules import Schedule

MAX_LOG_SCALE = math.log(100.0)
SMALL_GROUP = 128  # tokens below which one small dense mask is cheaper than one call per scale
FEW_LOGITS = 2**14  # of one head, below which torch's attention is sooner done than float32 head by head, measured
FEW_LOGITS_AT_ONCE = 2**9  # likewise than bf16 over all heads
MANY_LOGITS = 2**22  # that exist at once
FEW_QUERIES = 64  # fewer at a time, and all keys are read again too often
BF16_LOGIT = 8.0  # up to here bf16 rounds a logit by at most 1/64; results are then off by .4 %, torch's own by .2 %


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
    """One block's past while sampling: keys and values (B, H, tokens, c), how many are filled, and the text's own."""

    keys: Tensor
    values: Tensor
    filled: int = 0
    text: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values (B, H, n, c) in place and return all filled ones."""
        rows, end = len(keys), self.filled + keys.shape[2]
        self.keys[:rows, :, self.filled : end] = keys
        self.values[:rows, :, self.filled : end] = values
        self.filled = end
        return self.keys[:rows, :, :end], self.values[:rows, :, :end]

    def keep(self, rows: slice) -> None:
        """Drop every row of the batch but `rows`."""
        self.keys, self.values = self.keys[rows], self.values[rows]
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
        scale = self._scale()
        qk, v = self._project(x).unflatten(-1, (3 * self.heads, -1)).split([2 * self.heads, self.heads], dim=2)
        q, k = _turn(qk, scale, places.turns).transpose(1, 2).chunk(2, dim=1)
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.append(k, v)
            q = q if q.dtype == v.dtype else q.to(v.dtype, memory_format=torch.contiguous_format)
            return self.proj(attend_to_past(q, k, v, scale))
        return self.proj(attend_groups(q.to(v.dtype), k.to(v.dtype), v, places.groups))

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side, (B, L, 3 C)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = in_one(self.mat_qkv, x, bias=bias)
        return self.mat_qkv(x) + bias if qkv is None else qkv

    def _scale(self) -> Tensor:
        """What the queries of each head are scaled by, (1, H, 1, 1)."""
        return self.scale_mul_1H11.float().clamp(max=MAX_LOG_SCALE).exp()


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
        if cache is None or cache.text is None:
            keys_values = self.read(text.features)
        else:
            keys_values = cache.text
        if cache is not None:
            cache.text = keys_values
        q = self.mat_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.proj(_merge(attend_to_text(q, *keys_values, mask=text.mask)))

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, T, c) of text features (B, T, C)."""
        k, v = self.mat_kv(features).chunk(2, dim=-1)
        return _split(k, self.heads), _split((v + self.v_bias).to(k.dtype), self.heads)


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
        k, v = _split(k, self.heads), _split(v + self.v_bias, self.heads)
        return self.proj(_merge(attend(q, k, v, mask=mask, scale=q.shape[-1] ** -0.5))).squeeze(1)


def _turn(qk: Tensor, scale: Tensor, turns: Tensor) -> Tensor:
    """Normalise queries and keys (B, L, 2 H, c), scale the queries and rotate both, in float32."""
    scale, wide = scale.view(-1, 1), qk.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_min(1e-12)
    factor = torch.cat([scale, torch.ones_like(scale)]) / length
    if wide is qk or torch.is_grad_enabled():
        return rotate_(wide * factor, turns)
    return rotate_(wide.mul_(factor), turns)


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """softmax(scale q k^T) v over heads (B, H, L, c); `mask` is True where a key may be seen."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def attend_groups(q: Tensor, k: Tensor, v: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Attend group by group to the prefix each may see, without groups to everything; heads merged, (B, L, H c)."""
    if not groups:
        return _merge(attend(q, k, v))
    parts = [
        _merge(attend(q[:, :, one.start : one.end], k[:, :, : one.end], v[:, :, : one.end], mask=one.mask))
        for one in groups
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def attend_to_past(q: Tensor, k: Tensor, v: Tensor, bound: Tensor) -> Tensor:
    """softmax(q k^T) v without a mask, heads merged, (B, L, H c); no head's logits exceed its `bound` (H, or one).

    Sampling on a CPU goes through oneDNN, some queries at a time, in half the time of torch's own kernel: bf16 in one
    product over all heads where it holds the logits well, else head by head with logits in float32.
    """
    batch, heads, length, width = q.shape
    tokens = k.shape[2]
    if length * tokens < FEW_LOGITS_AT_ONCE or torch.is_grad_enabled() or not _has_products(q):
        return _merge(attend(q, k, v))
    together = MANY_LOGITS // (batch * heads * tokens)  # queries of all heads whose logits stay near
    if q.dtype == torch.bfloat16 and together >= min(length, FEW_QUERIES) and float(bound.max()) <= BF16_LOGIT:
        write, step = _write_all_heads, together
    elif length * tokens >= FEW_LOGITS:
        write, step = _write_head_by_head, MANY_LOGITS // tokens
    else:
        return _merge(attend(q, k, v))
    y = q.new_empty(batch, length, heads, width)
    for queries, out in zip(q.split(max(1, step), dim=2), y.split(max(1, step), dim=1), strict=True):
        write(queries, k, v, out)
    return y.flatten(2)


def attend_to_text(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(c)) v over heads (B, H, L, c).

    Sampling in bf16 on a CPU multiplies by oneDNN, unless a logit turns out too large to be held well in bf16.
    """
    scale = q.shape[-1] ** -0.5
    each = q.shape[2] * k.shape[2]
    suits = q.dtype == torch.bfloat16 and FEW_LOGITS_AT_ONCE <= each <= MANY_LOGITS // (q.shape[0] * q.shape[1])
    if torch.is_grad_enabled() or not suits or not _has_products(q):
        return attend(q, k, v, mask=mask, scale=scale)
    flat = torch.baddbmm(q.new_empty(1), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), beta=0, alpha=scale)
    logits = flat.unflatten(0, q.shape[:2])  # rounded once
    least, most = torch.aminmax(logits)
    if not max(-float(least), float(most)) <= BF16_LOGIT:
        return attend(q, k, v, mask=mask, scale=scale)
    out = torch.empty_like(q)
    return _write_weighted(logits.exp_() if mask is None else logits.exp_().mul_(mask), v, out)


def _has_products(q: Tensor) -> bool:
    """Whether oneDNN multiplies here; not while a function mode may be watching torch's own attention."""
    return has_onednn(q) and multiplies(q.dtype) and not has_torch_function((q,))


def _write_all_heads(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """For logits up to `BF16_LOGIT`, whose exponentials need no largest one taken off."""
    _write_weighted(torch.matmul(q, k.transpose(-2, -1)).exp_(), v, out.transpose(1, 2))


def _write_weighted(weights: Tensor, v: Tensor, out: Tensor) -> Tensor:
    """The mean of `v` (B, H, T, c) by `weights` (B, H, L, T) into `out` (B, H, L, c)."""
    return torch.div(torch.matmul(weights, v), weights.sum(-1, keepdim=True), out=out)


def _write_head_by_head(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    for row, head in product(range(q.shape[0]), range(q.shape[1])):
        weights = multiply(q[row, head].float(), k[row, head].float()).softmax(-1)
        out[row, :, head] = multiply(weights.to(v.dtype), v[row, head].t())


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
