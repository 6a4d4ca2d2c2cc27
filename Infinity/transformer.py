"""The bitwise next-scale transformer of Infinity (arXiv 2412.04431, sec. 3)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import (
    AttentivePooling,
    CrossAttention,
    LayerCache,
    Places,
    SelfAttention,
    TextContext,
    block_causal_groups,
)
from .config import MAX_SCALES, InfinityConfig
from .initialise import initialise
from .layers import FeedForward, HeadNorm, LayerNorm, RMSNorm, modulate
from .linear import empty_linear
from .pretrained import Pretrained
from .rope import rotations
from .schedules import Schedule
from .text import Text

checkpoint_block = partial(checkpoint, use_reentrant=False)


@dataclass(frozen=True)
class Condition:
    """Everything the blocks need of the prompts."""

    pooled: Tensor  # (B, C)
    modulation: Tensor  # (B, 1, 6, C): two factors, two scales, two shifts, shared by all blocks
    text: TextContext  # for cross-attention

    def rows(self, rows: slice) -> Condition:
        """The condition of some rows of the batch."""
        mask = None if self.text.mask is None else self.text.mask[rows]
        return Condition(self.pooled[rows], self.modulation[rows], TextContext(self.text.features[rows], mask))


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward; the pooled text modulates the first and the last."""

    def __init__(self, config: InfinityConfig) -> None:
        super().__init__()
        self.ada_gss = nn.Parameter(torch.empty(1, 1, 6, config.width))
        self.sa = SelfAttention(config.width, config.heads)
        self.ca_norm = LayerNorm(config.width)
        self.ca = CrossAttention(config.width, config.heads)
        self.ffn = FeedForward(config.width, config.hidden)

    def forward(
        self,
        x: Tensor,
        condition: Condition,
        places: Places,
        cache: LayerCache | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Map `x` (B, L, C) float32 to the same shape.

        `cache` is the block's own while sampling; `keep` (2, B, 1, 1) scales self-attention and feed-forward for
        stochastic depth.
        """
        make = partial(self._modulation, condition)
        gamma1, gamma2, gain1, gain2, shift1, shift2 = make() if cache is None else cache.once("modulation", make)
        if keep is not None:
            gamma1, gamma2 = gamma1 * keep[0], gamma2 * keep[1]
        x = torch.addcmul(x, self.sa(modulate(x, gain1, shift1), places, cache), gamma1)
        x = x + self.ca(self.ca_norm(x), condition.text, cache)
        return torch.addcmul(x, self.ffn(modulate(x, gain2, shift2)), gamma2)

    def _modulation(self, condition: Condition) -> tuple[Tensor, ...]:
        """Factors of the two branches, then gains and shifts of their norms, each (B, 1, C) float32."""
        gamma1, gamma2, scale1, scale2, shift1, shift2 = (self.ada_gss + condition.modulation).float().unbind(2)
        return gamma1, gamma2, 1 + scale1, 1 + scale2, shift1, shift2


class TextPooling(nn.Module):
    """`AttentivePooling` under its published parameter names."""

    def __init__(self, config: InfinityConfig) -> None:
        super().__init__()
        self.ca = AttentivePooling(config.text_channels, config.width, config.pool_heads)

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Pool `features` (B, T, channels) to (B, C)."""
        return self.ca(features, mask)


class Infinity(Pretrained):
    """Predicts every bit of every token of a scale from the text and the coarser scales.

    >>> model = Infinity(InfinityConfig(depth=4, width=128, heads=4, bits=16, text_channels=64, text_length=32)).eval()
    >>> grids, text = Schedule.of(1, 2, 4, 8), Text.of([torch.randn(5, 64)])
    >>> bits = sample(model, text, grids, Sampling(guidance=3.0), seeds=[0]).bits
    >>> logits = model(teacher_inputs(bits, grids), text, grids)  # (1, 85, 16, 2)

    Published weights: `load_transformer`; a folder of `save_pretrained`: `Infinity.from_pretrained`.
    """

    config_class = InfinityConfig
    config: InfinityConfig

    def __init__(self, config: InfinityConfig, *, seed: int = 0) -> None:
        super().__init__(config)
        self.checkpoint: Callable[..., Tensor] | None = None
        width = config.width
        self.cfg_uncond = nn.Parameter(torch.empty(config.text_length, config.text_channels))
        self.pos_start = nn.Parameter(torch.empty(1, 1, width))
        self.text_norm = RMSNorm(config.text_channels)
        self.text_proj_for_sos = TextPooling(config)
        self.text_proj_for_ca = nn.Sequential(
            empty_linear(config.text_channels, width), nn.GELU(approximate="tanh"), empty_linear(width, width)
        )
        self.lvl_embed = nn.Embedding(MAX_SCALES, width, _weight=torch.empty(MAX_SCALES, width))
        self.word_embed = empty_linear(config.bits, width)
        self.shared_ada_lin = nn.Sequential(nn.SiLU(), empty_linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head_nm = HeadNorm(width)
        self.head = empty_linear(width, 2 * config.bits)
        self._turns: dict[tuple[Schedule, torch.device], Tensor] = {}
        initialise(dict(self.named_parameters()), config, seed)

    def forward(
        self,
        inputs: Tensor,
        text: Text,
        schedule: Schedule,
        *,
        drop: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Teacher-forced logits (B, L, bits, 2) of all scales of `schedule`.

        `inputs` (B, L - 1, bits): the summed coarser codes at each later scale (`teacher_inputs`, `self_correct`).
        `drop` (B,) bool: prompts to replace by the null text.
        `generator`: draws the dropped paths in training mode; without one, none is dropped.
        ValueError if `inputs` do not fit the schedule.
        """
        condition = self.condition(self.null_where(text, drop) if drop is not None else text)
        x = torch.cat([self.first(condition), self.embed(inputs)], dim=1)
        if x.shape[1] != schedule.tokens:
            raise ValueError(f"{inputs.shape[1]} input tokens do not fit a schedule of {schedule.tokens}")
        x = x + self.scale_embedding(schedule)
        places = Places(self.turns(schedule, x.device), block_causal_groups(schedule, x.device))
        for block, keep in zip(self.blocks, self._paths(len(x), x.device, generator), strict=True):
            x = self._run(block, x, condition, places, keep)
        return self.logits(x, condition.pooled)

    def condition(self, text: Text) -> Condition:
        """Pooled text, modulation and keys' features of B prompts, in float32."""
        with self.float32():
            text = text.replace(self.text_norm(text.values.float()))
            mask = text.mask()
            pooled = self.text_proj_for_sos(text.padded(), mask)
            features = text.replace(self.text_proj_for_ca(text.values)).padded()
            modulation = self.shared_ada_lin(pooled).unflatten(-1, (1, 6, -1))
        return Condition(pooled, modulation, TextContext(features, mask))

    def null_text(self, text: Text) -> Text:
        """The learned null text, as long as each prompt of `text`; ValueError if one is longer than the null text."""
        if max(text.lengths) > len(self.cfg_uncond):
            raise ValueError(f"a prompt has {max(text.lengths)} tokens, the model knows {len(self.cfg_uncond)}")
        return text.replace(self.cfg_uncond[text.positions()])

    def null_where(self, text: Text, drop: Tensor) -> Text:
        """`text` with the prompts marked in `drop` (B,) replaced by the null text, which always gets a gradient."""
        lengths = torch.tensor(text.lengths, device=text.values.device)
        rows = drop.to(text.values.device).repeat_interleave(lengths)[:, None]
        return text.replace(torch.where(rows, self.null_text(text).values, text.values.float()))

    def first(self, condition: Condition) -> Tensor:
        """The one token of the first scale, (B, 1, C)."""
        return condition.pooled[:, None] + self.pos_start.float()

    def embed(self, inputs: Tensor) -> Tensor:
        """Input codes (B, n, bits) as tokens (B, n, C) float32."""
        with self.float32():
            return self.word_embed(inputs.float())

    def scale_embedding(self, schedule: Schedule) -> Tensor:
        """The scale embedding of every token of `schedule`, (L, C)."""
        return torch.cat([self.lvl_embed.weight[i].expand(n, -1) for i, n in enumerate(schedule.lengths)])

    def logits(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Two logits per bit, (B, L, bits, 2) float32, of the blocks' output `x` (B, L, C) and `pooled` (B, C)."""
        with self.float32():
            return self.head(self.head_nm(x.float(), pooled)).unflatten(-1, (-1, 2))

    def turns(self, schedule: Schedule, device: torch.device) -> Tensor:
        """Rotations (L, c / 2) of every token of `schedule`, computed once per schedule and device."""
        key = (schedule, device)
        if key not in self._turns:
            self._turns[key] = rotations(schedule, self.config.head_width).to(device)
        return self._turns[key]

    def new_cache(self, rows: int, tokens: int) -> list[LayerCache]:
        """One empty cache per block, for `rows` batch rows and `tokens` tokens, in the dtype that attention runs in."""
        weight = next(self.blocks.parameters())
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        room = partial(torch.empty, rows, self.config.heads, tokens, self.config.head_width)
        where = {"dtype": dtype, "device": weight.device}
        return [LayerCache(room(**where), room(**where)) for _ in self.blocks]

    def enable_gradient_checkpointing(self, function: Callable[..., Tensor] = checkpoint_block) -> None:
        """Recompute each block in the backward pass instead of keeping its activations; `function` runs the block."""
        self.checkpoint = function

    def cast_blocks(self, dtype: torch.dtype) -> Infinity:
        """Cast the blocks to `dtype`, in place, to run inside autocast; all else stays float32. Returns self."""
        self.blocks.to(dtype)
        return self

    def float32(self) -> AbstractContextManager[None]:
        """A context without autocast."""
        return torch.autocast(self.pos_start.device.type, enabled=False)

    def _run(self, block: nn.Module, x: Tensor, condition: Condition, places: Places, keep: Tensor | None) -> Tensor:
        if self.checkpoint is not None and torch.is_grad_enabled():
            return self.checkpoint(block, x, condition, places, None, keep)
        return block(x, condition, places, None, keep)

    def _paths(self, batch: int, device: torch.device, generator: torch.Generator | None) -> list[Tensor | None]:
        """Per block, the factors (2, B, 1, 1) of stochastic depth, whose rate rises linearly; None if nothing drops."""
        depth, rate = self.config.depth, self.config.drop_path
        if not self.training or rate == 0 or generator is None:
            return [None] * depth
        keep = 1 - torch.linspace(0, rate, depth).view(-1, 1, 1, 1, 1)
        draws = torch.rand(depth, 2, batch, 1, 1, generator=generator, device=generator.device).cpu()
        return list(((draws < keep) / keep).to(device))


def margins(logits: Tensor) -> Tensor:
    """logit1 - logit0 of every bit, (..., bits) of (..., bits, 2): the quantity in which guidance is linear."""
    return logits[..., 1] - logits[..., 0]
