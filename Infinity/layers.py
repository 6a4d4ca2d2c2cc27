"""Small layers shared by the transformer: float32 norms, modulation, feed-forward."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .linear import empty_linear, in_one, is_watched

EPS = 1e-6
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)
GELU_BEND = 0.044715 * GELU_SLOPE


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, returned in the input's dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of `x` (..., width)."""
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + EPS)
        return (y * self.weight).to(x.dtype)


class LayerNorm(nn.Module):
    """Layer norm with weights, computed and returned in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of `x` (..., width); float32."""
        return F.layer_norm(x.float(), x.shape[-1:], self.weight.float(), self.bias.float(), EPS)


def modulate(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """LN(x) gain + shift, float32 (B, L, C), for `x` (B, L, C) and `gain`, `shift` (B, 1, C) float32."""
    if torch.is_grad_enabled():
        return Modulation.apply(x.float(), gain, shift)
    return _modulated(x.float(), gain, shift)[0]


def _modulated(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The modulated norm (B, L, C) of `x`, its means and its inverse deviations, both (B, L, 1)."""
    one, zero = x.new_ones(x.shape[-1]), x.new_zeros(x.shape[-1])  # the kernel is faster with weights than without
    y, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], one, zero, EPS)
    return torch.addcmul(shift, y, gain, out=y), mean, inverse


class Modulation(torch.autograd.Function):
    """`modulate` that saves memory: only `x` and its statistics are kept for the backward pass, LN(x) is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        """Normalise and modulate."""
        y, mean, inverse = _modulated(x, gain, shift)
        ctx.save_for_backward(x, mean, inverse, gain)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of `x` (B, L, C), `gain` and `shift` (B, 1, C)."""
        x, mean, inverse, gain = ctx.saved_tensors
        inner, shape = gradient * gain, x.shape[-1:]
        wanted = [True, False, False]
        of_x = torch.ops.aten.native_layer_norm_backward(inner, x, shape, mean, inverse, None, None, wanted)[0]
        of_gain = ((x - mean) * inverse * gradient).sum_to_size(gain.shape)
        return of_x, of_gain, gradient.sum_to_size(gain.shape)


class TanhGELU(nn.Module):
    """GELU by its tanh formula, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape and dtype."""
        return Gelu.apply(x) if x.device.type == "cpu" else F.gelu(x, approximate="tanh")


class Gelu(torch.autograd.Function):
    """x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)): the tanh formula, in steps faster than the kernel on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Compute in float32, return in the dtype of `x`."""
        ctx.save_for_backward(x)
        wide = x.float()
        y = torch.addcmul(wide.new_full((), GELU_SLOPE), wide, wide, value=GELU_BEND)
        return y.mul_(wide).sigmoid_().mul_(wide).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient of `x`, by torch's own kernel."""
        return torch.ops.aten.gelu_backward(gradient, *ctx.saved_tensors, approximate="tanh")


class FeedForward(nn.Module):
    """Linear, GELU (tanh), linear; the first two in one call if the weight is packed and nothing watches them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = empty_linear(width, hidden)
        self.act = TanhGELU()
        self.fc2 = empty_linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, C) to (B, L, C)."""
        hidden = in_one(self.fc1, x, gelu=True) if not is_watched(self.act) else None
        return self.fc2(self.act(self.fc1(x)) if hidden is None else hidden)


class HeadNorm(nn.Module):
    """The last adaptive norm, modulated by the pooled text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), empty_linear(width, 2 * width))

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Normalise `x` (B, L, C); scale and shift come from `pooled` (B, C)."""
        scale, shift = self.ada_lin(pooled)[:, None].chunk(2, dim=-1)
        return modulate(x, 1 + scale, shift)
