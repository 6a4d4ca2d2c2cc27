"""What a sampling run is told, and what it tells: settings, scales, results and the guidance rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .schedules import Grid


@dataclass(frozen=True)
class Sampling:
    """How to sample. `guidance` and `temperature` are one number or one per scale.

    `insertion` says where guidance acts: 0 is the bit margins, -n the output of block depth - n. `top_p` drops a bit
    value of probability at most 1 - top_p; `top_k` = 1 takes the likelier value, any other number keeps both.
    """

    guidance: float | Sequence[float] = 3.0
    temperature: float | Sequence[float] = 0.5
    top_k: int = 0
    top_p: float = 0.97
    insertion: tuple[int, ...] = (0,)
    stop: int | None = None  # number of scales to sample; None: all

    def guidance_at(self, scale: int) -> float:
        """Guidance of one scale."""
        return _at(self.guidance, scale, "guidance")

    def temperature_at(self, scale: int) -> float:
        """Temperature of one scale."""
        return _at(self.temperature, scale, "temperature")

    def guided_blocks(self, depth: int) -> set[int]:
        """Blocks after which guidance acts."""
        blocks = {depth + place for place in self.insertion if place < 0}
        if any(place > 0 for place in self.insertion) or any(block <= 0 for block in blocks):
            raise ValueError(f"insertion must hold 0 or {1 - depth} to -1 for {depth} blocks, got {self.insertion}")
        return blocks


@dataclass(frozen=True)
class ScaleStep:
    """One scale about to be sampled: what hooks and guidance may know.

    `roles` names the rows of the batch, {"cond": rows, "uncond": rows, ...}; `extra` the margins of further texts.
    """

    index: int
    grid: Grid
    guidance: float
    roles: Mapping[str, slice]
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ScaleResult:
    """One sampled scale.

    `logits` (rows, n, bits, 2) before temperature and guidance, `bits` (B, h, w, d), `summed` codes (B, d, H, W) so
    far, and the next scale's `inputs` (B, n', bits), None after the last.
    """

    step: ScaleStep
    logits: Tensor
    bits: Tensor
    summed: Tensor
    inputs: Tensor | None


@dataclass(frozen=True)
class Sample:
    """Bits (B, h, w, d) of every sampled scale and the summed codes (B, d, H, W) that the tokenizer decodes."""

    bits: tuple[Tensor, ...]
    summed: Tensor


Guide = Callable[[Tensor, Tensor, ScaleStep], Tensor]


def linear_guidance(cond: Tensor, uncond: Tensor, step: ScaleStep) -> Tensor:
    """Classifier-free guidance: uncond + guidance (cond - uncond)."""
    return step.guidance * cond + (1 - step.guidance) * uncond


def _at(value: float | Sequence[float], scale: int, name: str) -> float:
    if isinstance(value, int | float):
        return float(value)
    if scale >= len(value):
        raise ValueError(f"{name} lists {len(value)} scales, but scale {scale} is sampled")
    return float(value[scale])
