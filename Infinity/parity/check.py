"""One comparison of ours with what was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .fixture import recorded_bits

# Largest errors allowed, relative: to the norm of a gradient, to a loss, to the largest of some codes, to 1 for sines.
GRADIENT, LOSS, CODES, ROPE = 1e-4, 1e-5, 1e-5, 1e-6
SPREAD = 3  # standard deviations that the largest of many rounding errors may reach


@dataclass(frozen=True)
class Check:
    """One comparison: its name, its error and the largest error allowed."""

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within bounds."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'} {self.name:<48} error {self.error:.2e} allowed {self.allowed:.0e}"


def bits(prefix: str, ours: Sequence[Tensor], outputs: dict[str, Tensor], *, label: str = "") -> Iterator[Check]:
    for index, recorded in enumerate(recorded_bits(prefix, outputs)):
        mine = ours[index] if index < len(ours) else None
        yield equal(f"{label or prefix}.{index}", mine, recorded)


def equal(name: str, ours: Tensor | None, recorded: Tensor) -> Check:
    """Number of entries that differ."""
    if ours is None or ours.shape != recorded.shape:
        return Check(name, float("inf"), 0)
    return Check(name, float((ours.bool() != recorded.bool()).sum()), 0)


def rounding(network: nn.Module, size: float) -> float:
    """The largest error to expect in outputs of about `size` of a float32 network, whatever the order of its sums.

    An output is the end of a chain of sums. Each of their products may be rounded otherwise, by the machine's precision
    times `size`, and independent errors add up to the root of their number.
    """
    products = sum(weight[0].numel() for weight in network.parameters() if weight.ndim > 1)
    return SPREAD * torch.finfo(torch.float32).eps * products**0.5 * size


def size(recorded: Tensor) -> float:
    """The root mean square."""
    return float(recorded.float().square().mean().sqrt())


def near(name: str, ours: Tensor, recorded: Tensor, relative: float) -> Check:
    """Largest absolute difference, allowed relative to the largest entry."""
    return close(name, ours, recorded, relative * float(recorded.abs().max()))


def close(name: str, ours: Tensor, recorded: Tensor, allowed: float) -> Check:
    """Largest absolute difference; axes of length one may differ, as in a picture's single moment of time."""
    if [n for n in ours.shape if n > 1] != [n for n in recorded.shape if n > 1]:
        return Check(name, float("inf"), allowed)
    return Check(name, float((ours - recorded.reshape(ours.shape)).abs().max()), allowed)


def relative(name: str, ours: Tensor | None, recorded: Tensor | None) -> Check:
    """Norm of the difference over the norm of the recorded tensor."""
    if ours is None or recorded is None or ours.numel() != recorded.numel():
        return Check(name, float("inf"), GRADIENT)
    scale = max(float(recorded.norm()), 1e-12)
    return Check(name, float((ours.reshape(recorded.shape) - recorded).norm()) / scale, GRADIENT)
