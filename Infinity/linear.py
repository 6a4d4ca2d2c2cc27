"""Linear layers, unseeded, whose products on a CPU are oneDNN's, and their weights packed for it.

Products on a CPU, by dtype and processor (no AVX-512: oneDNN multiplies float32 only, so bf16 is never packed):

| weight | processor | `Linear` multiplies by | `packed_weights` |
|---|---|---|---|
| float32 | any with oneDNN | oneDNN; torch if the product is small or under autocast | packs |
| bf16 | oneDNN with AVX-512 | torch, which calls oneDNN itself | packs; short texts are folded (folded.py) |
| bf16 | without AVX-512 | torch | packs nothing |
| float16, float64; any on a GPU | any | torch | packs nothing |

Gradients go by the unpacked weight; those of float32 on a CPU are multiplied by oneDNN too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_PRODUCTS = 2**20  # multiplications of one product; below this, calling oneDNN costs more than it saves

log = logging.getLogger(__name__)


class Linear(nn.Linear):
    """A linear layer that multiplies float32 on a CPU with oneDNN.

    `torch.nn.functional.linear` takes MKL for float32, which is slower on AMD processors and lays the weight out anew
    even for a few rows.
    """

    packed: Packed | None = None  # set by `packed_weights` alone

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs), in the weight's dtype or autocast's."""
        if self.packed is not None and self.packed.serves(x, self.weight):
            return multiply(x.to(self.weight.dtype), self.packed.value, self.bias)
        if not _suits_onednn(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        return (Product.apply if torch.is_grad_enabled() else multiply)(x, self.weight, self.bias)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x weight^T + bias by oneDNN, without gradients: (..., inputs), (outputs, inputs), (outputs,) to (..., outputs).

    `gelu` applies GELU (tanh) before the result is rounded. RuntimeError where oneDNN lacks the dtype (`multiplies`).
    """
    return torch.ops.mkldnn._linear_pointwise.default(
        x, weight, bias, *(("gelu", [], "tanh") if gelu else ("none", [], ""))
    )


def in_one(layer: nn.Module, x: Tensor, *, bias: Tensor | None = None, gelu: bool = False) -> Tensor | None:
    """layer(x), then GELU if `gelu`, in one oneDNN call that rounds once: (..., inputs) to (..., outputs).

    `bias` (outputs,) replaces the layer's own. None if there is no packed weight, or if a gradient, a forward hook or
    an adapter needs the steps between: the caller then takes them one by one.
    """
    if not serves_packed(layer, x):
        return None
    dtype, packed = layer.weight.dtype, cast(Packed, layer.packed)
    return multiply(x.to(dtype), packed.value, layer.bias if bias is None else bias.to(dtype), gelu=gelu)


def serves_packed(layer: nn.Module, x: Tensor) -> TypeGuard[Linear]:
    """Whether `layer` has a packed weight that fits `x` (..., inputs), and no hook or adapter watches the layer."""
    if type(layer) is not Linear or layer.packed is None or is_watched(layer):
        return False
    return layer.packed.serves(x, layer.weight)


def pack(weight: Tensor) -> Tensor:
    """A copy of `weight` (outputs, inputs) for `multiply`, laid out as oneDNN reads it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach())


@dataclass(frozen=True)
class Packed:
    """A weight laid out as oneDNN reads it, and which weight it was made from."""

    value: Tensor  # opaque: only oneDNN reads it
    source: tuple[int, int]  # address and version of the weight: an edited or replaced weight no longer matches

    @classmethod
    def of(cls, weight: Tensor) -> Packed:
        """Packs `weight` (outputs, inputs)."""
        return cls(pack(weight), (weight.data_ptr(), weight._version))

    @staticmethod
    def possible(weight: Tensor) -> bool:
        """Whether oneDNN multiplies by a weight of this dtype and device on this processor."""
        if weight.device.type != "cpu" or weight.is_inference() or not has_onednn(weight):
            return False
        return multiplies(weight.dtype)

    def serves(self, x: Tensor, weight: Tensor) -> bool:
        """Whether `x` (..., inputs) times `weight` can use this copy: same weight, same dtype, no gradients."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.ndim < 2:
            return False
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return weight.dtype == dtype and self.source == (weight.data_ptr(), weight._version)


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[int]:
    """Keep a second copy of every `Linear` weight, laid out as oneDNN reads it, until the context closes.

    Sampling picture after picture then lays out no weight at each scale: faster, and equal up to rounding. In bf16,
    cross-attention also folds short texts into its projections (folded.py). Gradients use the original weights, and so
    does a weight that is replaced or edited meanwhile, unless it is edited through `.data`, which goes unnoticed.

    Yields the number of layers that have a packed weight. Where there is none (a GPU, bf16 without AVX-512, no oneDNN)
    nothing changes; the number is 0 and the log says why.
    """
    linears = [one for one in model.modules() if isinstance(one, Linear)]
    layers = [one for one in linears if one.packed is None]  # an outer context keeps its own
    try:
        for layer in layers:
            layer.packed = Packed.of(layer.weight) if Packed.possible(layer.weight) else None
        count = sum(layer.packed is not None for layer in linears)
        if linears and not count:
            log.info("no weight was packed: %s", _why_unpacked(linears[0].weight))
        yield count
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
        """Gradients of `x`, `weight` and `bias`; None for one that needs none."""
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        return (
            Product.apply(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None,
            Product.apply(rows.t(), x.flatten(0, -2).t(), None) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` (..., inputs) and `weight` are float32 on a CPU, outside autocast, and their product large enough."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32 or x.ndim < 2:
        return False
    if x.numel() * len(weight) < FEW_PRODUCTS or torch.is_autocast_enabled("cpu"):
        return False
    return has_onednn(x)


def has_onednn(x: Tensor) -> bool:
    """Whether `x` is on a CPU and oneDNN is there and switched on."""
    return x.device.type == "cpu" and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies this dtype on this processor: float32 on any, bf16 only with AVX-512."""
    return dtype == torch.float32 or dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _why_unpacked(weight: Tensor) -> str:
    if weight.device.type != "cpu":
        return f"weights are on {weight.device.type}, and oneDNN serves a CPU alone"
    if not has_onednn(weight):
        return "oneDNN is absent or switched off"
    if weight.is_inference():
        return "weights made in inference mode have no version to watch"
    return f"oneDNN multiplies no {str(weight.dtype).removeprefix('torch.')} on this processor"


def empty_linear(inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    """A linear layer with uninitialised weights, so that building a model draws nothing from the global generator."""
    device = torch.get_default_device()
    with torch.device("meta"):
        layer = Linear(inputs, outputs, bias=bias)
    return layer.to_empty(device=device)


def is_watched(module: nn.Module) -> bool:
    """Whether a forward hook, its own or a global one, sees `module` called."""
    return bool(module._forward_hooks or module._forward_pre_hooks or nn.modules.module._has_any_global_hook())
