"""Convolutional parts of the tokenizer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FALLBACK_GROUPS = 24


def empty_conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    """A convolution with uninitialised weights; `padding` is half the kernel by default."""
    device = torch.get_default_device()
    with torch.device("meta"):
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding)
    return layer.to_empty(device=device)


class Swish(nn.Module):
    """x sigmoid(x), elementwise, rounded twice as in the reference.

    `fast` takes torch's fused kernel, which rounds once, and overwrites its input when there are no gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fast = False

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if self.fast:
            return F.silu(x, inplace=not torch.is_grad_enabled())
        return x * torch.sigmoid(x) if torch.is_grad_enabled() else torch.sigmoid(x).mul_(x)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group norm in `groups` groups, or in 24 if `groups` does not divide `channels`; ValueError if 24 does not."""
    chosen = groups if channels % groups == 0 else FALLBACK_GROUPS
    if channels % chosen:
        raise ValueError(f"{channels} channels divide into neither {groups} nor {FALLBACK_GROUPS} groups")
    return nn.GroupNorm(chosen, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Norm, swish and convolution, twice, plus the input (through a 1 x 1 convolution if the width changes)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs, groups)
        self.conv1 = empty_conv(inputs, outputs)
        self.norm2 = group_norm(outputs, groups)
        self.conv2 = empty_conv(outputs, outputs)
        self.act = Swish()
        self.nin_shortcut = empty_conv(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        y = self.conv1(self.act(self.norm1(x)))
        y = self.conv2(self.act(self.norm2(y)))
        shortcut = x if self.nin_shortcut is None else self.nin_shortcut(x)
        return y.add_(shortcut) if self.act.fast and not torch.is_grad_enabled() else shortcut + y


class Downsample(nn.Module):
    """Halve the resolution by a convolution of stride 2, padded with zeros at the bottom and right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = empty_conv(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the resolution (nearest neighbour), then convolve.

    With `fast`, and without gradients, four 2 x 2 kernels convolve the small map instead and their results interleave:
    the same map up to rounding, with 4/9 of the multiplications.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = empty_conv(channels, channels)
        self.fast = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, 2 h, 2 w)."""
        if self.fast and not torch.is_grad_enabled():
            return self._folded(x)
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

    def _folded(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        padded = F.pad(x, (1, 1, 1, 1))
        shape = (batch, channels, 2 * height, 2 * width)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for row, kernel in enumerate(_halves(self.conv.weight, 2)):
            for column, weight in enumerate(_halves(kernel, 3)):
                seen = padded[:, :, row : row + height + 1, column : column + width + 1]
                y[:, :, row::2, column::2] = F.conv2d(seen, weight, self.conv.bias)
        return y


def _halves(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two-tap kernels of even and of odd outputs that equal a three-tap `kernel` along `dim` after doubling."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first, middle + last], dim), torch.stack([first + middle, last], dim)


@torch.no_grad()
def initialise_convolutions(model: nn.Module, seed: int) -> None:
    """Draw weights and biases of every convolution, uniform in +-1 / sqrt(fan-in); not on the meta device."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not layers or layers[0].weight.is_meta:
        return
    generator = torch.Generator(layers[0].weight.device).manual_seed(seed)
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)
