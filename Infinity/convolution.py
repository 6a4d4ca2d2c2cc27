"""Convolutional parts of the tokenizer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FALLBACK_GROUPS = 24


def empty_conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    """A convolution whose weights are not drawn yet."""
    device = torch.get_default_device()
    with torch.device("meta"):
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding)
    return layer.to_empty(device=device)


def swish(x: Tensor) -> Tensor:
    """x sigmoid(x) in two roundings, as the reference computes it; the fused kernel drifts from it with depth."""
    return x * torch.sigmoid(x)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group norm; channels that `groups` does not divide fall back to 24 groups."""
    chosen = groups if channels % groups == 0 else FALLBACK_GROUPS
    if channels % chosen:
        raise ValueError(f"{channels} channels divide into neither {groups} nor {FALLBACK_GROUPS} groups")
    return nn.GroupNorm(chosen, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Norm, swish, convolution, twice; a 1 x 1 convolution on the shortcut where the width changes."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs, groups)
        self.conv1 = empty_conv(inputs, outputs)
        self.norm2 = group_norm(outputs, groups)
        self.conv2 = empty_conv(outputs, outputs)
        self.nin_shortcut = empty_conv(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        y = self.conv1(swish(self.norm1(x)))
        y = self.conv2(swish(self.norm2(y)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + y


class Downsample(nn.Module):
    """Half the resolution; one row and column of zeros at the bottom and right only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = empty_conv(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the resolution, nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = empty_conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, 2 h, 2 w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


@torch.no_grad()
def initialise_convolutions(model: nn.Module, seed: int) -> None:
    """Uniform fan-in weights and biases for every convolution of a model that is not on the meta device."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not layers or layers[0].weight.is_meta:
        return
    generator = torch.Generator(layers[0].weight.device).manual_seed(seed)
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
