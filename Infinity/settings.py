"""Settings of a sampling run, what its hooks are told, its results, and the rule of guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .schedules import Grid


@dataclass(frozen=True)
class ScaleStep:
    """One scale about to be sampled: what hooks and guidance are told."""

    index: int  # from 0, the coarsest
    grid: Grid  # rows and columns of its tokens
    guidance: float
    roles: Mapping[str, slice]  # rows of the batch by role: {"cond": rows, "uncond": rows, ...}
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # role -> margins (B, n, bits) of a further text


# guide(cond, uncond, step): combined margins (B, n, bits) of margins (B, n, bits)
Guide = Callable[[Tensor, Tensor, ScaleStep], Tensor]


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    >>> Sampling(guidance=4.0, temperature=0.5, top_p=0.97)
    """

    guidance: float | Sequence[float] = 3.0  # one for all scales, or one per scale; 1 is no guidance
    temperature: float | Sequence[float] = 0.5  # one for all scales, or one per scale; margins are divided by it
    top_k: int = 0  # 1 takes the likelier value of each bit; any other number keeps both
    top_p: float = 0.97  # a bit value of probability at most 1 - top_p is never drawn; 0 keeps both
    insertion: tuple[int, ...] = (0,)  # guidance acts at: 0, the margins; -n, the output of block depth - n
    stop: int | None = None  # number of scales to sample; None: all
    patchify: int = 1  # patchify x patchify cells of the tokenizer make one token, as its config says
    forced: Sequence[Tensor] = ()  # bits (B, h, w, d) that the first scales take instead of those drawn
    guide: Guide | None = None  # combines margins at every scale, in place of the linear rule
    on_scale: Callable[[ScaleStep], None] | None = None  # called before each scale runs

    def guidance_at(self, scale: int) -> float:
        """Guidance of one scale; ValueError if a list of guidances ends before it."""
        return _at(self.guidance, scale, "guidance")

    def temperature_at(self, scale: int) -> float:
        """Temperature of one scale; ValueError if a list of temperatures ends before it."""
        return _at(self.temperature, scale, "temperature")

    def guided_blocks(self, depth: int) -> set[int]:
        """Blocks (0 to depth - 1) after which guidance acts; ValueError for an insertion that `depth` does not have."""
        blocks = {depth + place for place in self.insertion if place < 0}
        if any(place > 0 for place in self.insertion) or any(block <= 0 for block in blocks):
            raise ValueError(f"insertion must hold 0 or {1 - depth} to -1 for {depth} blocks, got {self.insertion}")
        return blocks


@dataclass(frozen=True)
class ScaleResult:
    """One sampled scale of n tokens."""

    step: ScaleStep
    logits: Tensor  # (rows, n, bits, 2), before temperature and guidance
    bits: Tensor  # (B, h, w, d) bool, at the tokenizer's grid
    summed: Tensor  # (B, d, H, W), codes of this scale and all coarser ones
    inputs: Tensor | None  # (B, n', bits) for the next scale; None after the last


@dataclass(frozen=True)
class Sample:
    """Bits of every sampled scale, and their summed codes."""

    bits: tuple[Tensor, ...]  # per scale (B, h, w, d)
    summed: Tensor  # (B, d, H, W), for `Tokenizer.decode`


def linear_guidance(cond: Tensor, uncond: Tensor, step: ScaleStep) -> Tensor:
    """Classifier-free guidance, uncond + guidance (cond - uncond); any shape, all equal."""
    return step.guidance * cond + (1 - step.guidance) * uncond


def _at(value: float | Sequence[float], scale: int, name: str) -> float:
    if isinstance(value, int | float):
        return float(value)
    if scale >= len(value):
        raise ValueError(f"{name} lists {len(value)} scales, but scale {scale} is sampled")
    return float(value[scale])
