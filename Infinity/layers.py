"""Small layers shared by the transformer: unseeded linears, float32 norms, modulation, feed-forward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPS = 1e-6
GELU_SLOPE = 2 * math.sqrt(2 / math.pi)
GELU_BEND = 0.044715 * GELU_SLOPE
FEW_PRODUCTS = 2**20  # below, calling oneDNN costs more than it saves, measured


class Linear(nn.Linear):
    """A linear layer that multiplies float32 on a CPU with oneDNN.

    `torch.nn.functional.linear` takes MKL there, which does about half as much per second on AMD's AVX-512 cores and
    repacks the weight for a few rows; bf16 goes to oneDNN by itself. `packed` is set by `packed_weights`.
    """

    packed: Packed | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        if self.packed is not None and self.packed.serves(x, self.weight):
            return multiply(x.to(self.weight.dtype), self.packed.value, self.bias)
        if not _suits_onednn(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        return (Product.apply if torch.is_grad_enabled() else multiply)(x, self.weight, self.bias)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x weight^T + bias by oneDNN, without gradients; `gelu` applies GELU (tanh) before the result is rounded."""
    return torch.ops.mkldnn._linear_pointwise.default(
        x, weight, bias, *(("gelu", [], "tanh") if gelu else ("none", [], ""))
    )


def in_one(layer: nn.Module, x: Tensor, *, bias: Tensor | None = None, gelu: bool = False) -> Tensor | None:
    """`layer`'s product plus `bias` and with GELU behind it, rounded once, where `layer` keeps a packed weight.

    None without one, and where a gradient, a forward hook or an adapter needs the parts.
    """
    if not serves_packed(layer, x):
        return None
    dtype = layer.weight.dtype
    return multiply(x.to(dtype), layer.packed.value, layer.bias if bias is None else bias.to(dtype), gelu=gelu)


def serves_packed(layer: nn.Module, x: Tensor) -> bool:
    """Whether `layer` is a plain one that keeps a packed weight for `x`, and nothing wants to see it called."""
    if type(layer) is not Linear or layer.packed is None or is_watched(layer):
        return False
    return layer.packed.serves(x, layer.weight)


def pack(weight: Tensor) -> Tensor:
    """A copy of `weight` for `multiply`, laid out as oneDNN reads it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach())


@dataclass(frozen=True)
class Packed:
    """A weight laid out as oneDNN reads it, and where and at which version the weight was."""

    value: Tensor
    source: tuple[int, int]

    @classmethod
    def of(cls, weight: Tensor) -> Packed:
        """A copy of `weight`."""
        return cls(pack(weight), (weight.data_ptr(), weight._version))

    @staticmethod
    def possible(weight: Tensor) -> bool:
        """Whether oneDNN multiplies by such a weight here."""
        if weight.device.type != "cpu" or weight.is_inference() or not has_onednn(weight):
            return False
        return multiplies(weight.dtype)

    def serves(self, x: Tensor, weight: Tensor) -> bool:
        """Whether `x` is to be multiplied by this very weight in its own dtype, without gradients."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.ndim < 2:
            return False
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return weight.dtype == dtype and self.source == (weight.data_ptr(), weight._version)


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Keep a second copy of every weight, laid out as oneDNN reads it, while the context lasts; on a CPU only.

    Sampling picture after picture then lays nothing out at each scale: equal up to rounding, and sooner. Gradients go
    past the copies, and so does a weight that is replaced or edited meanwhile; edits through `.data` are not noticed.

    In bf16, cross-attention then folds short texts into its projections (folded.py).
    """
    layers = [one for one in model.modules() if isinstance(one, Linear) and one.packed is None]
    try:
        for layer in layers:
            layer.packed = Packed.of(layer.weight) if Packed.possible(layer.weight) else None
        yield
    finally:
        for layer in layers:
            layer.packed = None


class Product(torch.autograd.Function):
    """`multiply` for `x` (..., inputs) and `weight` (outputs, inputs), its gradients multiplied likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The product, (..., outputs)."""
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of `x`, `weight` and `bias`, where wanted."""
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        return (
            Product.apply(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None,
            Product.apply(rows.t(), x.flatten(0, -2).t(), None) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` and `weight` are float32 on a CPU outside autocast, and large enough."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32 or x.ndim < 2:
        return False
    if x.numel() * len(weight) < FEW_PRODUCTS or torch.is_autocast_enabled("cpu"):
        return False
    return has_onednn(x)


def has_onednn(x: Tensor) -> bool:
    """Whether oneDNN may be used for `x`, which is on a CPU."""
    return x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled


def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies numbers of that type on this CPU."""
    return dtype == torch.float32 or dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def empty_linear(inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    """A linear layer whose weights are not drawn yet, so that building a model leaves the global generator alone."""
    device = torch.get_default_device()
    with torch.device("meta"):
        layer = Linear(inputs, outputs, bias=bias)
    return layer.to_empty(device=device)


def is_watched(module: nn.Module) -> bool:
    """Whether a forward hook wants to see `module` called."""
    return bool(module._forward_hooks or module._forward_pre_hooks or nn.modules.module._has_any_global_hook())


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, returned in the input's dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
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
        """Normalise the last dimension."""
        return F.layer_norm(x.float(), x.shape[-1:], self.weight.float(), self.bias.float(), EPS)


def modulate(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """LN(x) gain + shift in float32, for `x` (B, L, C) and `gain`, `shift` (B, 1, C)."""
    if torch.is_grad_enabled():
        return Modulation.apply(x.float(), gain, shift)
    return _modulated(x.float(), gain, shift)[0]


def _modulated(x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The modulated norm of `x`, its means and its inverse deviations."""
    one, zero = x.new_ones(x.shape[-1]), x.new_zeros(x.shape[-1])  # with weights, the kernel takes half the time
    y, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], one, zero, EPS)
    return torch.addcmul(shift, y, gain, out=y), mean, inverse


class Modulation(torch.autograd.Function):
    """`modulate`, which keeps `x` and its statistics for the backward pass, and not LN(x) beside it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        """Normalise and modulate."""
        y, mean, inverse = _modulated(x, gain, shift)
        ctx.save_for_backward(x, mean, inverse, gain)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of `x`, `gain` and `shift`."""
        x, mean, inverse, gain = ctx.saved_tensors
        inner, shape = gradient * gain, x.shape[-1:]
        wanted = [True, False, False]
        of_x = torch.ops.aten.native_layer_norm_backward(inner, x, shape, mean, inverse, None, None, wanted)[0]
        of_gain = ((x - mean) * inverse * gradient).sum_to_size(gain.shape)
        return of_x, of_gain, gradient.sum_to_size(gain.shape)


class TanhGELU(nn.Module):
    """GELU by its tanh formula."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply elementwise."""
        return Gelu.apply(x) if x.device.type == "cpu" else F.gelu(x, approximate="tanh")


class Gelu(torch.autograd.Function):
    """x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), in less time than torch's kernel takes over the same tanh."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Compute in float32, return in the dtype of `x`."""
        ctx.save_for_backward(x)
        wide = x.float()
        y = torch.addcmul(wide.new_full((), GELU_SLOPE), wide, wide, value=GELU_BEND)
        return y.mul_(wide).sigmoid_().mul_(wide).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Torch's own derivative."""
        return torch.ops.aten.gelu_backward(gradient, *ctx.saved_tensors, approximate="tanh")


class FeedForward(nn.Module):
    """Linear, GELU (tanh), linear."""

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
        """Norm of `x` (B, L, C), its scale and shift from `pooled` (B, C)."""
        scale, shift = self.ada_lin(pooled)[:, None].chunk(2, dim=-1)
        return modulate(x, 1 + scale, shift)
