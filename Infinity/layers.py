"""Small layers shared by the transformer: unseeded linears, float32 norms, modulation, feed-forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6
FEW_ROWS = (3, 64)  # where turning the product round was faster, measured


class Linear(nn.Linear):
    """A linear layer that, for few rows on a CPU, multiplies with the weight on the left.

    The matrix library repacks its right operand; with 8 to 64 rows that costs more than the product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        rows = x.numel() // x.shape[-1]
        if not FEW_ROWS[0] <= rows <= FEW_ROWS[1] or not _plain_cpu(x) or x.dtype != self.weight.dtype:
            return F.linear(x, self.weight, self.bias)
        columns = x.reshape(rows, -1).t()
        y = self.weight @ columns if self.bias is None else torch.addmm(self.bias[:, None], self.weight, columns)
        return y.t().contiguous().view(*x.shape[:-1], -1)


def _plain_cpu(x: Tensor) -> bool:
    """Whether `x` is float32 on a CPU with neither gradients nor autocast."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))


def empty_linear(inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    """A linear layer whose weights are not drawn yet, so that building a model leaves the global generator alone."""
    device = torch.get_default_device()
    with torch.device("meta"):
        layer = Linear(inputs, outputs, bias=bias)
    return layer.to_empty(device=device)


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


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LN(x) (1 + scale) + shift in float32, for `x` (B, L, C) and `scale`, `shift` (B, 1, C)."""
    return torch.addcmul(shift, F.layer_norm(x.float(), x.shape[-1:], eps=EPS), 1 + scale)


class FeedForward(nn.Module):
    """Linear, GELU (tanh), linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = empty_linear(width, hidden)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = empty_linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, C) to (B, L, C)."""
        return self.fc2(self.act(self.fc1(x)))


class HeadNorm(nn.Module):
    """The last adaptive norm, modulated by the pooled text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), empty_linear(width, 2 * width))

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """Norm of `x` (B, L, C), its scale and shift from `pooled` (B, C)."""
        scale, shift = self.ada_lin(pooled)[:, None].chunk(2, dim=-1)
        return modulate(x, scale, shift)
