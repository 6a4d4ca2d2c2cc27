"""The plain version that the benchmark compares with: the same mathematics on the same weights.

Training uses one dense mask. Sampling concatenates its caches, computes the text's keys and values at every scale, and
runs both halves of guidance at every scale. Linear, norm and GELU are torch's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import MAX_LOG_SCALE, CrossAttention, SelfAttention
from ..choice import choose_bits, seeded_noise
from ..heads import attend
from ..layers import EPS
from ..quantizer import codes_of, codes_to_tokens, resize, tokens_to_bits
from ..rope import rotate
from ..schedules import Schedule
from ..settings import Sampling
from ..text import Text
from ..transformer import Block, Condition, Infinity, margins

Past = list[tuple[Tensor, Tensor] | None]


def plain_logits(model: Infinity, inputs: Tensor, text: Text, grids: Schedule) -> Tensor:
    """Teacher-forced logits (B, L, bits, 2) with a dense block-causal mask."""
    condition = model.condition(text)
    scale = torch.repeat_interleave(torch.arange(len(grids)), torch.tensor(grids.lengths)).to(inputs.device)
    mask = (scale[:, None] >= scale)[None, None]
    x = torch.cat([model.first(condition), model.embed(inputs)], dim=1) + model.scale_embedding(grids)
    for block in _blocks(model):
        x, _ = _block(block, x, condition, model.turns(grids, x.device), mask, None)
    return model.logits(x, condition.pooled)


@torch.no_grad()
def plain_sample(model: Infinity, text: Text, grids: Schedule, settings: Sampling, *, seed: int) -> list[Tensor]:
    """Bits (1, h, w, d) per scale of one prompt; of `settings`, guidance, temperature and top_p count."""
    condition = model.condition(Text.join([text, model.null_text(text)]))
    x, summed = model.first(condition), torch.zeros(())
    past: Past = [None] * len(model.blocks)
    drawn: list[Tensor] = []
    noise = seeded_noise([seed])
    for index, grid in enumerate(grids.grids):
        x = x + model.lvl_embed.weight[index]
        turns = model.turns(grids, x.device)[grids.starts[index] : grids.ends[index]]
        for number, block in enumerate(_blocks(model)):
            x, past[number] = _block(block, x, condition, turns, None, past[number])
        cond, uncond = margins(model.logits(x, condition.pooled)).chunk(2)
        guidance = settings.guidance_at(index)
        combined = (guidance * cond + (1 - guidance) * uncond) / settings.temperature_at(index)
        drawn.append(tokens_to_bits(choose_bits(combined, noise, index, top_p=settings.top_p), grid))
        summed = summed + resize(codes_of(drawn[-1]), grids.grids[-1])
        if index + 1 < len(grids):
            x = model.embed(codes_to_tokens(resize(summed, grids.grids[index + 1]))).repeat(2, 1, 1)
    return drawn


def _blocks(model: Infinity) -> Iterator[Block]:
    return cast(Iterator[Block], iter(model.blocks))


def _block(
    block: Block,
    x: Tensor,
    condition: Condition,
    turns: Tensor,
    mask: Tensor | None,
    past: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    parts = (block.ada_gss + condition.modulation).unbind(2)
    gamma1, gamma2, scale1, scale2, shift1, shift2 = parts
    out, past = _self_attention(block.sa, _modulate(x, scale1, shift1), turns, mask, past)
    x = x + out * gamma1
    x = x + _cross_attention(block.ca, block.ca_norm(x), condition)
    hidden = F.gelu(_linear(block.ffn.fc1, _modulate(x, scale2, shift2)), approximate="tanh")
    return x + _linear(block.ffn.fc2, hidden) * gamma2, past


def _self_attention(
    layer: SelfAttention, x: Tensor, turns: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    bias = torch.cat([layer.q_bias, torch.zeros_like(layer.q_bias), layer.v_bias])
    qkv = F.linear(x, layer.mat_qkv.weight, bias).unflatten(-1, (3, layer.heads, -1))
    q, k, v = qkv.unbind(2)
    scale = layer.scale_mul_1H11.clamp(max=MAX_LOG_SCALE).exp().view(-1, 1)
    q = rotate(F.normalize(q, dim=-1, eps=1e-12) * scale, turns).transpose(1, 2)
    k, v = rotate(F.normalize(k, dim=-1, eps=1e-12), turns).transpose(1, 2), v.transpose(1, 2)
    if past is not None:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    return _linear(layer.proj, attend(q, k, v, mask=mask).transpose(1, 2).flatten(2)), (k, v)


def _cross_attention(layer: CrossAttention, x: Tensor, condition: Condition) -> Tensor:
    k, v = F.linear(condition.text.features, layer.mat_kv.weight).chunk(2, dim=-1)
    q, k, v = (
        one.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for one in (_linear(layer.mat_q, x), k, v + layer.v_bias)
    )
    out = attend(q, k, v, mask=condition.text.mask, scale=q.shape[-1] ** -0.5)
    return _linear(layer.proj, out.transpose(1, 2).flatten(2))


def _modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)
